package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestBugsFit checks that each bug can still be made, and that its test exists.
func TestBugsFit(t *testing.T) {
	t.Parallel()
	const root = "../../.."
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
