package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// plainWords are those in exported names that need no explanation: of Go, of programs, of CloudEvents and OpenTelemetry, of English.
const plainWords = `
async bytes channel collect config copier db describe encoder err format get http invalid max options parse string text tx unmarshal unwrap
attribute binary cloud metric prefix producer structured tracer
body change chunks details decode drop jitter newest outcome policy random ready security store too unattended unknown unmatched unserved`

// TestWordsAreExplained wants each word of an exported name in the table of words of docs/design.md, so that each means one thing.
func TestWordsAreExplained(t *testing.T) {
	t.Parallel()
	_, table, _ := strings.Cut(read(t, "docs/design.md"), "\n## Words\n")
	table, _, _ = strings.Cut(table, "\n## ")
	known := map[string]bool{}
	for _, word := range regexp.MustCompile(`[A-Za-z]+`).FindAllString(strings.ReplaceAll(table, "-", "")+plainWords, -1) {
		known[stem(word)] = true
	}
	unknown := map[string][]string{}
	for _, folder := range []string{"outbox", "outbox/admin", "worker", "relay", "metrics", "otel", "producer"} {
		for _, name := range exported(t, folder) {
			for _, word := range camel.FindAllString(name, -1) {
				if !known[stem(word)] {
					unknown[strings.ToLower(word)] = append(unknown[strings.ToLower(word)], folder+"."+name)
				}
			}
		}
	}
	for _, word := range slices.Sorted(maps.Keys(unknown)) {
		t.Errorf("%q of %s is not in the table of words", word, strings.Join(unknown[word], ", "))
	}
}

var camel = regexp.MustCompile(`[A-Z]+[a-z]*`)

// stem brings forms of a word together, such as those of "handle".
func stem(word string) string {
	word = strings.ToLower(word)
	for _, end := range []string{"ing", "ion", "ed", "er", "es", "e", "s"} {
		if short := strings.TrimSuffix(word, end); short != word && len(short) > 2 {
			return short
		}
	}
	return word
}

// exported returns the exported names of a package: of functions, methods, types, constants and variables.
func exported(t *testing.T, folder string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", folder, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", folder, len(files), err)
	}
	add := func(name *ast.Ident) {
		if name.IsExported() {
			names = append(names, name.Name)
		}
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if decl.Recv == nil || receiver(decl.Recv.List[0].Type).IsExported() {
					add(decl.Name)
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						add(spec.Name)
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							add(name)
						}
					}
				}
			}
		}
	}
	return names
}

// receiver is the name of the type that a method is of.
func receiver(e ast.Expr) *ast.Ident {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	}
	return e.(*ast.Ident)
}
