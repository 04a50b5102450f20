package layout

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestModules has "make test" and "make lint" go through every module there is.
func TestModules(t *testing.T) {
	t.Parallel()
	found, err := filepath.Glob("../../*/go.mod")
	if err != nil || len(found) == 0 {
		t.Fatalf("%v, %v", found, err)
	}
	_, line, _ := strings.Cut(read(t, "Makefile"), "\nMODULES := ")
	line, _, _ = strings.Cut(line, "\n")
	named := strings.Fields(line)
	for _, path := range append(found, "../../go.mod") {
		folder := filepath.Base(filepath.Dir(path))
		if path == "../../go.mod" {
			folder = "."
		}
		if !slices.Contains(named, folder) {
			t.Errorf("MODULES of the Makefile lacks %s", folder)
		}
	}
}

// TestRootIsLight keeps what drives browsers, terminals and brokers out of the go.sum of the product's users.
func TestRootIsLight(t *testing.T) {
	t.Parallel()
	mod := read(t, "go.mod")
	for _, heavy := range []string{"chromedp", "creack/pty", "nats-server", "riverqueue", "watermill"} {
		if strings.Contains(mod, heavy) {
			t.Errorf("the root module needs %s: move the test to a module of its own", heavy)
		}
	}
}

// TestImageHasItsSources has the image built from every package that the commands link.
func TestImageHasItsSources(t *testing.T) {
	t.Parallel()
	sent := strings.Split(read(t, ".dockerignore"), "\n")
	for _, path := range list(t, "{{.ImportPath}}", "-deps", "./cmd/...") {
		if folder, own := strings.CutPrefix(path, module); own {
			folder, _, _ = strings.Cut(folder, "/")
			if !slices.Contains(sent, "!"+folder) {
				t.Errorf(".dockerignore leaves out %s, of which the commands need %s", folder, path)
			}
		}
	}
}

// read returns a file of the root.
func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
