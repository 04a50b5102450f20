package embeddedpg

import (
	"os"
	"path/filepath"
	"testing"
)

// fakeInstallation makes a bin folder whose postgres only knows its version.
func fakeInstallation(t *testing.T, bin, version string) {
	t.Helper()
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	writeScript(t, filepath.Join(bin, "postgres"), "echo 'postgres (PostgreSQL) "+version+" (Packager 1.2)'\n")
	writeScript(t, filepath.Join(bin, "initdb"), "exit 1\n")
}

// findIn looks for PostgreSQL with this environment, these usual folders and nothing in the cache.
func findIn(t *testing.T, pgBin, path, pattern string) (installation, error) {
	t.Helper()
	t.Setenv("SIGNALBOX_PG_BIN", pgBin)
	t.Setenv("PATH", path)
	acct, err := currentAccount()
	if err != nil {
		t.Fatal(err)
	}
	return find(t.Context(), acct, []string{pattern}, t.TempDir(), t.Logf)
}

func TestFindOrder(t *testing.T) {
	root := openFolder(t)
	at := func(name string) string { return filepath.Join(root, name) }
	for name, version := range map[string]string{
		"chosen": "15.1", "path": "16.2", "config": "17devel", "usual/9.6/bin": "9.6.24", "usual/15/bin": "15.7",
		"usual/18/bin": "18beta1", "old": "14.9",
	} {
		fakeInstallation(t, at(name), version)
	}
	if err := os.Mkdir(at("only-config"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeScript(t, filepath.Join(at("only-config"), "pg_config"), "echo "+at("config")+"\n")
	if err := os.Mkdir(at("links"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(at("path"), "postgres"), filepath.Join(at("links"), "postgres")); err != nil {
		t.Fatal(err)
	}

	usual := filepath.Join(root, "usual", "*", "bin")
	for _, test := range []struct {
		name, pgBin, path string
		want              installation
	}{
		{"the chosen one before all", at("chosen"), at("path"), installation{at("chosen"), 15}},
		{"PATH before pg_config", "", at("path") + ":" + at("only-config"), installation{at("path"), 16}},
		{"a link in PATH stands for its folder", "", at("links"), installation{at("path"), 16}},
		{"pg_config before the usual folders", "", at("only-config"), installation{at("config"), 17}},
		{"the newest of the usual folders", "", root, installation{at("usual/18/bin"), 18}},
		{"one that is too old is passed over", "", at("old"), installation{at("usual/18/bin"), 18}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := findIn(t, test.pgBin, test.path, usual)
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestWrongChoiceIsAnError(t *testing.T) {
	root := openFolder(t)
	good, old := filepath.Join(root, "good"), filepath.Join(root, "old")
	fakeInstallation(t, good, "18.0")
	fakeInstallation(t, old, "13.4")
	garbled := filepath.Join(root, "garbled")
	fakeInstallation(t, garbled, "")
	writeScript(t, filepath.Join(garbled, "postgres"), "echo what?\n")

	for name, test := range map[string]struct{ bin, reason string }{
		"empty folder":   {root, "initdb"},
		"no folder":      {filepath.Join(root, "none"), "no such file"},
		"too old":        {old, "has PostgreSQL 13"},
		"something else": {garbled, `answered "what?"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := findIn(t, test.bin, good, filepath.Join(root, "none"))
			saysInOneLine(t, err, "SIGNALBOX_PG_BIN", test.bin, test.reason, "15 or newer")
		})
	}

	t.Run("closed to the account", func(t *testing.T) {
		acct, err := currentAccount()
		if err != nil {
			t.Fatal(err)
		}
		if acct.credential == nil {
			return // Only root picks folders that PostgreSQL's user cannot enter.
		}
		if err := os.Chmod(good, 0o700); err != nil {
			t.Fatal(err)
		}
		_, err = findIn(t, good, good, filepath.Join(root, "none"))
		saysInOneLine(t, err, "SIGNALBOX_PG_BIN", "permission denied", "as user "+acct.name)
	})
}

func TestNothingFound(t *testing.T) {
	root := openFolder(t)
	old := filepath.Join(root, "old")
	fakeInstallation(t, old, "12.1")
	_, err := findIn(t, "", old, filepath.Join(root, "none"))
	saysInOneLine(t, err, "no PostgreSQL 15 or newer", "has PostgreSQL 12", "npm", "apt install", "brew install", "docker compose up", "DATABASE_URL")
}
