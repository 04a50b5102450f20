package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A model is not the code, and nothing but its comments says which code it mirrors. So what they name has to be there:
//
//   - engine.Member.Read, worker.runner.sleep and such, with a package and the type of a method or field: in that package;
//   - outbox.fence and such: in the schema, if not in package outbox;
//   - names with a capital in the middle, like FlagInTable: in the model, or in one of those packages;
//   - TestThis: in any test; docs/design.md: a file; and a title in quotes behind one of Markdown: in that.
var (
	qualified = regexp.MustCompile(`\b(engine|worker|outbox|admin)((?:\.[A-Za-z]\w*)+)`)
	camel     = regexp.MustCompile(`(?:^|[^.\w/])([A-Za-z][a-z0-9]+[A-Z]\w*)`)
	file      = regexp.MustCompile(`\b[\w/]+\.(?:go|md|sql)\b`)
	title     = regexp.MustCompile(`\b([\w/]+\.md), "([^"]+)"`)
)

// folders are where the packages are that comments name.
var folders = map[string]string{"engine": "internal/engine", "worker": "worker", "outbox": "outbox", "admin": "outbox/admin"}

// elsewhere are names of PostgreSQL's source and product names.
var elsewhere = []string{"PostgreSQL", "ProcArrayEndTransaction", "AtCommit_Notify", "HandleTx"}

const root = "../.."

func TestNamedCodeExists(t *testing.T) {
	t.Parallel()
	known := map[string]map[string]bool{}
	for name, folder := range folders {
		known[name] = declared(t, filepath.Join(root, folder))
	}
	for name := range objects(t) {
		known["outbox"][name] = true
	}
	tests := testNames(t)
	named := 0
	for _, folder := range modelFolders(t) {
		own := declared(t, folder)
		for name := range declared(t, folder) {
			own[name[strings.LastIndex(name, ".")+1:]] = true // its comments name its steps without their receiver
		}
		for where, text := range comments(t, folder) {
			for _, fault := range unknown(text, own, known, tests, &named) {
				t.Errorf("%s names %s, which does not exist", where, fault)
			}
		}
	}
	if named < 60 {
		t.Errorf("%d names were found: comments are not understood any more", named)
	}
}

// TestUnknownNames tests the test.
func TestUnknownNames(t *testing.T) {
	t.Parallel()
	known := map[string]map[string]bool{
		"engine": {"Member": true, "Member.Read": true, "lockBell": true}, "outbox": {"fence": true}, "worker": {}, "admin": {},
	}
	own, tests := map[string]bool{"NoFence": true}, map[string]bool{"TestThis": true}
	for text, want := range map[string][]string{
		"engine.Member.Read, and outbox.fence. Only with NoFence, see lockBell and TestThis.": nil,
		"engine.Member.Write reads.":                                        {"engine.Member.Write"},
		"outbox.fences are locked (lockBells, NoFences).":                   {"outbox.fences", "lockBells", "NoFences"},
		"TestThat shows it.":                                                {"TestThat"},
		"See outbox/cursor_text.go.":                                        {"outbox/cursor_text.go"},
		`docs/design.md, "Owning lanes" and docs/design.md, "Owning ships"`: {`docs/design.md, "Owning ships"`},
	} {
		n := 0
		if got := unknown(text, own, known, tests, &n); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

// unknown returns the names in a comment that do not exist, and counts all of them.
func unknown(text string, own map[string]bool, known map[string]map[string]bool, tests map[string]bool, named *int) (list []string) {
	note := func(name string, exists bool) {
		*named++
		if !exists {
			list = append(list, name)
		}
	}
	for _, m := range qualified.FindAllStringSubmatch(text, -1) {
		name := strings.TrimPrefix(m[2], ".")
		if name != "go" && name != "md" { // else a file
			note(m[0], known[m[1]][name])
		}
	}
	for _, m := range camel.FindAllStringSubmatch(text, -1) {
		name := m[1]
		switch {
		case slices.Contains(elsewhere, name):
		case strings.HasPrefix(name, "Test"):
			note(name, tests[name])
		default:
			note(name, own[name] || known["engine"][name] || known["worker"][name] || known["outbox"][name])
		}
	}
	for _, name := range file.FindAllString(text, -1) {
		_, err := os.Stat(filepath.Join(root, name))
		note(name, err == nil || !strings.Contains(name, "/")) // without a folder, it is one of the model's
	}
	for _, m := range title.FindAllStringSubmatch(text, -1) {
		page, _ := os.ReadFile(filepath.Join(root, m[1]))
		note(m[0], strings.Contains(string(page), "# "+m[2]+"\n"))
	}
	return list
}

// modelFolders are those of the models.
func modelFolders(t *testing.T) []string {
	t.Helper()
	specs, err := filepath.Glob("*/spec.go")
	if err != nil || len(specs) < 3 {
		t.Fatalf("found %v, %v", specs, err)
	}
	for i := range specs {
		specs[i] = filepath.Dir(specs[i])
	}
	return specs
}

// parse parses the Go files of a folder, tests included.
func parse(t *testing.T, folder string) (*token.FileSet, []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no Go in %s: %v", folder, err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, path := range paths {
		parsed, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, parsed)
	}
	return set, files
}

// comments returns the comments of a folder, each line break a space, by where they are.
func comments(t *testing.T, folder string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	set, files := parse(t, folder)
	for _, f := range files {
		for _, group := range f.Comments {
			texts[set.Position(group.Pos()).String()] = strings.Join(strings.Fields(group.Text()), " ")
		}
	}
	return texts
}

// declared returns what a package declares: names, and those of methods and fields with their type in front.
func declared(t *testing.T, folder string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	_, files := parse(t, folder)
	for _, f := range files {
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				names[receiver(d)+d.Name.Name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					addSpec(names, spec)
				}
			}
		}
	}
	return names
}

// receiver returns the type of a method, with a dot, or nothing for a function.
func receiver(d *ast.FuncDecl) (name string) {
	if d.Recv == nil {
		return ""
	}
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name + "."
		}
		return name == ""
	})
	return name
}

func addSpec(names map[string]bool, spec ast.Spec) {
	switch s := spec.(type) {
	case *ast.ValueSpec:
		for _, id := range s.Names {
			names[id.Name] = true
		}
	case *ast.TypeSpec:
		names[s.Name.Name] = true
		if structure, ok := s.Type.(*ast.StructType); ok {
			for _, field := range structure.Fields.List {
				for _, id := range field.Names {
					names[s.Name.Name+"."+id.Name] = true
				}
			}
		}
	}
}

// objects returns the tables, functions, triggers and so on of the schema.
func objects(t *testing.T) map[string]bool {
	t.Helper()
	create := regexp.MustCompile(`(?i)create (?:or replace )?(?:unlogged )?(?:table|view|function|procedure|type|domain|sequence|index) outbox\.(\w+)`)
	names := map[string]bool{}
	paths, err := filepath.Glob(filepath.Join(root, "migrations/outbox/*.sql"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range create.FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
	}
	return names
}

// testNames returns those of all tests of the project.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	test := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range test.FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
