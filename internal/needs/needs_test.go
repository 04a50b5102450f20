package needs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signalbox-go/signalbox/internal/needs"
)

const lackVariable = "SIGNALBOX_TEST_LACK"

// TestLack lacks what it needs, in the processes that the other tests start.
func TestLack(t *testing.T) {
	t.Parallel()
	if os.Getenv(lackVariable) == "" {
		return
	}
	t.Run("program", func(t *testing.T) {
		t.Parallel()
		path := needs.Program(t, "apt-get install anvil", "no-such-anvil", "/nowhere/no-such-anvil")
		t.Errorf("goes on with %q", path)
	})
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		needs.Lacks(t, "a broker", "start one")
		t.Error("goes on")
	})
}

// lack runs TestLack in another process. Variables of the environment are set as "name=value".
func lack(t *testing.T, variables ...string) (output string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^TestLack$")
	cmd.Env = append(os.Environ(), append(variables, lackVariable+"=1")...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestLacks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ci, verdict string
		fails       bool
	}{
		"skipped": {"CI=", "--- SKIP: TestLack/", false},
		"failed":  {"CI=true", "--- FAIL: TestLack/", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "lacks")
			out, err := lack(t, test.ci, "SIGNALBOX_LACKS="+file)
			if (err != nil) != test.fails || strings.Count(out, test.verdict) != 2 {
				t.Errorf("%v\n%s", err, out)
			}
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(string(raw), "\n")
			slices.Sort(lines)
			if diff := cmp.Diff([]string{
				"", "internal/needs TestLack/program needs no-such-anvil: apt-get install anvil", "internal/needs TestLack/server needs a broker: start one",
			}, lines); diff != "" {
				t.Errorf("the file differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLacksWithoutFile(t *testing.T) {
	t.Parallel()
	out, err := lack(t, "CI=", "SIGNALBOX_LACKS=")
	if err != nil || !strings.Contains(out, "needs a broker: start one") || strings.Count(out, "--- SKIP: TestLack/") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
}

// A test that is skipped in silence would be taken for one that ran.
func TestLacksCannotSay(t *testing.T) {
	t.Parallel()
	out, err := lack(t, "CI=", "SIGNALBOX_LACKS=/nowhere/file")
	if err == nil || strings.Count(out, "SIGNALBOX_LACKS must name a file") != 2 || strings.Count(out, "--- FAIL: TestLack/") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestProgram(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := needs.Program(t, "reinstall Go", "no-such-anvil", "go"); filepath.Base(got) != "go" {
		t.Errorf("found %q in PATH", got)
	}
	if got := needs.Program(t, "", "no-such-anvil", file); got != file {
		t.Errorf("found %q instead of %s", got, file)
	}
}
