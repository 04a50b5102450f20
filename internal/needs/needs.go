// Package needs is for tests that need more of the machine than Go and PostgreSQL: a browser, a proxy, another program.
//
// A test that lacks what it needs is skipped, so that "make test" passes on any machine. In continuous integration, where the
// environment variable CI is set, it fails instead: there, a skipped test is one that nobody knows to be broken.
//
// "go test" does not show why a test of a passing package was skipped. So "make test" (.ci/test) names a new file in
// SIGNALBOX_LACKS, to which each test appends what it lacks, and prints that at the end. Only a test that lacks something reads the
// variable, whose value is new in each run: so Go runs the tests of its package again instead of taking their result from its cache.
// Other packages are cached as ever.
package needs

import (
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"
)

// Program returns the path of a program that the test runs: of the first that exists of names, which are looked for in PATH, or are
// paths. If there is none, the test lacks the first. The remedy is what to do to have it, such as "apt-get install curl".
func Program(t testing.TB, remedy string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Lacks(t, names[0], remedy)
	return ""
}

// Lacks ends a test that cannot run for want of something: as skipped, or as failed if CI is set.
func Lacks(t testing.TB, what, remedy string) {
	t.Helper()
	reason := "needs " + what + ": " + remedy
	if file := os.Getenv("SIGNALBOX_LACKS"); file != "" {
		if err := add(file, packageName()+" "+t.Name()+" "+reason+"\n"); err != nil {
			t.Fatalf("%s; and SIGNALBOX_LACKS must name a file that this can be written to: %v", reason, err)
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal(reason + "; it is skipped where CI is not set")
	}
	t.Skip(reason)
}

// add appends a line to a file. Tests of other packages do so at the same time: lines are short, and each is one write.
func add(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(line); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// packageName is the package whose tests this process runs, such as "cmd/outbox".
func packageName() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return os.Args[0]
	}
	return strings.TrimSuffix(strings.TrimPrefix(info.Path, "github.com/signalbox-go/signalbox/"), ".test")
}
