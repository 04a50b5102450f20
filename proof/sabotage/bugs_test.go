package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestBugsFit checks that each bug can still be made, and that its test exists.
func TestBugsFit(t *testing.T) {
	t.Parallel()
	const root = "../.."
	for _, b := range bugs {
		dir := t.TempDir()
		for _, e := range b.edits {
			raw, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, e.file)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, e.file), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.apply(dir); err != nil {
			t.Errorf("bug %q: %v", b.name, err)
		}
		if !hasTest(t, filepath.Join(root, b.pkg), b.run) {
			t.Errorf("bug %q: %s has no test %s", b.name, b.pkg, b.run)
		}
	}
}

// TestDocs checks that docs/reliability.md has each bug as it is here, and that each test that the docs name exists.
func TestDocs(t *testing.T) {
	t.Parallel()
	const root = "../.."
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("found the pages %v: %v", pages, err)
	}
	named := map[string]string{} // by test, a page that names it
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`).FindAllString(string(raw), -1) {
			named[name] = page
		}
		if filepath.Base(page) != "reliability.md" {
			continue
		}
		for _, b := range bugs {
			row := fmt.Sprintf("| %s | %s | `%s`", b.name, b.harm, strings.ReplaceAll(b.run, "|", "`, `"))
			if !strings.Contains(string(raw), row) {
				t.Errorf("%s lacks the row %q", page, row)
			}
		}
	}
	declared := map[string]bool{}
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, match := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(string(raw), -1) {
			declared[match[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, page := range named {
		if !declared[name] {
			t.Errorf("%s names %s, which does not exist", page, name)
		}
	}
}

// hasTest reports whether a package has a test whose name matches.
func hasTest(t *testing.T, dir, run string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^func (` + run + `)\(t \*testing\.T\)`)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if declared.Match(raw) {
			return true
		}
	}
	return false
}
