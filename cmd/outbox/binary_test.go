package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// The program as people run it is built once, when the first test asks for it.
var (
	binaryFolder string
	binary       = sync.OnceValues(func() (string, error) {
		var err error
		if binaryFolder, err = os.MkdirTemp("", "outbox-binary-"); err != nil {
			return "", err
		}
		path := filepath.Join(binaryFolder, "outbox")
		if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
			return "", errors.New(string(out))
		}
		return path, nil
	})
)

func removeBinary() { _ = os.RemoveAll(binaryFolder) }

// command returns the program with arguments and a database, not started. No other variable of ours is set.
func command(t *testing.T, databaseURL string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "SIGNALBOX_") && !strings.HasPrefix(variable, "DATABASE_URL=") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "DATABASE_URL="+databaseURL)
	return cmd
}

// An ended process left this.
type ended struct {
	stdout, stderr string
	code           int
}

// execute runs the program to its end, without a terminal.
func execute(t *testing.T, databaseURL string, args ...string) ended {
	t.Helper()
	cmd := command(t, databaseURL, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ended{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// succeed returns the standard output of what has to succeed.
func succeed(t *testing.T, db *pgtest.DB, args ...string) string {
	t.Helper()
	got := execute(t, db.URL, args...)
	if got.code != 0 {
		t.Fatalf("%v: exit code %d: %s", args, got.code, got.stderr)
	}
	return got.stdout
}

// decode runs what has to succeed with --json, and reads its one document.
func decode(t *testing.T, db *pgtest.DB, into any, args ...string) {
	t.Helper()
	stdout := succeed(t, db, append(args, "--json")...)
	if err := decodeOne(stdout, into); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

// decodeOne reads one JSON document, which is a line.
func decodeOne(stdout string, into any) error {
	if strings.Count(stdout, "\n") != 1 {
		return fmt.Errorf("not one line: %q", stdout)
	}
	return json.Unmarshal([]byte(stdout), into)
}

// refuse wants an exit code and one line of standard error with a text.
func refuse(t *testing.T, databaseURL string, code int, want string, args ...string) {
	t.Helper()
	got := execute(t, databaseURL, args...)
	if got.code != code || !strings.Contains(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 || got.stdout != "" {
		t.Errorf("%v: got %+v, want exit code %d and one line with %q", args, got, code, want)
	}
}

// A growing buffer can be read while a process writes to it.
type growing struct {
	mu   sync.Mutex
	text strings.Builder
}

func (g *growing) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(p)
}

func (g *growing) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in a minute: %s", what)
		}
	}
}
