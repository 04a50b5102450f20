package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	only := flag.String("bug", "", "only bugs whose name matches this regular expression")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *only)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sabotage:", err)
		os.Exit(1)
	}
}

// run tries the bugs one after the other, and prints a row of a table for each.
func run(ctx context.Context, only string) error {
	chosen, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	root, err := repository(ctx)
	if err != nil {
		return err
	}
	fmt.Println("| bug | what it does | caught by | after |")
	fmt.Println("|---|---|---|---|")
	sound := map[string]bool{}
	var missed []string
	for _, b := range bugs {
		if !chosen.MatchString(b.name) {
			continue
		}
		if !sound[b.test()] {
			caught, _, err := try(ctx, root, bug{pkg: b.pkg, run: b.run})
			if err != nil {
				return fmt.Errorf("%s on the sound tree: %w", b.test(), err)
			}
			if caught {
				return fmt.Errorf("%s fails on the sound tree", b.test())
			}
			sound[b.test()] = true
		}
		caught, took, err := try(ctx, root, b)
		if err != nil {
			return fmt.Errorf("bug %q: %w", b.name, err)
		}
		by := b.test()
		if !caught {
			by = "**nothing**"
			missed = append(missed, b.name)
		}
		fmt.Printf("| %s | %s | %s | %.0f s |\n", b.name, b.harm, by, took.Seconds())
	}
	if len(missed) > 0 {
		return fmt.Errorf("no test notices: %s", strings.Join(missed, ", "))
	}
	return nil
}

// repository returns the top folder of the tree to be copied.
func repository(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return "", fmt.Errorf("find the repository: run this within a clone of it: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// try runs a bug's test on a copy of the tree that has the bug, and reports whether it failed.
func try(ctx context.Context, root string, b bug) (caught bool, took time.Duration, err error) {
	dir, err := os.MkdirTemp("", "signalbox-sabotage-")
	if err != nil {
		return false, 0, err
	}
	defer os.RemoveAll(dir)
	if err := copyTree(ctx, root, dir); err != nil {
		return false, 0, err
	}
	if err := b.apply(dir); err != nil {
		return false, 0, err
	}
	start := time.Now()
	test := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout=5m", "-run", "^("+b.run+")$", b.pkg) //nolint:gosec // from our own list
	test.Dir = dir
	out, err := test.CombinedOutput()
	took = time.Since(start)
	var failed *exec.ExitError
	switch {
	case err == nil && strings.Contains(string(out), "no tests to run"):
		return false, took, fmt.Errorf("there is no test %s", b.test())
	case err == nil:
		return false, took, nil
	case ctx.Err() != nil || !errors.As(err, &failed):
		return false, took, err
	case !strings.Contains(string(out), "--- FAIL") && !strings.Contains(string(out), "panic: test timed out"):
		return false, took, fmt.Errorf("the test could not run:\n%s", out)
	}
	return true, took, nil
}

// copyTree copies what belongs to the repository, as it is now.
func copyTree(ctx context.Context, from, to string) error {
	list := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = from
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("list files: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		raw, err := os.ReadFile(filepath.Join(from, name)) //nolint:gosec // git has listed it
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil { //nolint:gosec // a source tree
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), raw, 0o644); err != nil { //nolint:gosec // a source tree
			return err
		}
	}
	return nil
}
