package cli_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
)

type sampleFlags struct {
	Listen string `default:"127.0.0.1:8080" help:"Where to serve."`
	cli.Database
	cli.Logging
}

func TestParse(t *testing.T) {
	t.Setenv("SIGNALBOX_LISTEN", "127.0.0.1:9")
	t.Setenv("SIGNALBOX_LOG_LEVEL", "warn")
	t.Setenv("DATABASE_URL", "postgres://from-environment/")
	var flags sampleFlags
	if _, err := cli.Parse("sample", "", &flags, []string{"--log-level", "debug"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	want := sampleFlags{
		Listen:   "127.0.0.1:9",
		Database: cli.Database{DatabaseURL: "postgres://from-environment/"},
		Logging:  cli.Logging{LogLevel: "debug", LogFormat: "auto"}, // a flag beats the environment
	}
	if flags != want {
		t.Errorf("got %+v, want %+v", flags, want)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--nope"}, {"stray"}, {"--log-level", "loud"}, {"--log-format"}} {
		var flags sampleFlags
		_, err := cli.Parse("sample", "", &flags, args, io.Discard)
		var usage *cli.UsageError
		if !errors.As(err, &usage) {
			t.Errorf("%q: got %v, want a usage error", args, err)
		}
	}
}

func TestParseVersion(t *testing.T) {
	t.Setenv("SIGNALBOX_VERSION", "true") // has no meaning
	var flags sampleFlags
	var out bytes.Buffer
	if _, err := cli.Parse("sample", "", &flags, nil, &out); err != nil || out.Len() > 0 {
		t.Errorf("got %v and %q, want nothing", err, out.String())
	}
	if _, err := cli.Parse("sample", "", &flags, []string{"--version"}, &out); !errors.Is(err, cli.ErrHelp) {
		t.Errorf("got %v, want ErrHelp", err)
	}
	if !strings.HasPrefix(out.String(), "sample ") || !strings.Contains(out.String(), " go1.") {
		t.Errorf("printed %q", out.String())
	}
}

func TestParseHelp(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://u:secret@h/d")
	var flags sampleFlags
	var out bytes.Buffer
	if _, err := cli.Parse("sample", "What it does.", &flags, []string{"--help"}, &out); !errors.Is(err, cli.ErrHelp) {
		t.Errorf("got %v, want ErrHelp", err)
	}
	for _, want := range []string{"What it does.", "--listen", "$SIGNALBOX_LISTEN", "$DATABASE_URL", "$SIGNALBOX_LOG_FORMAT"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help lacks %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "secret") {
		t.Errorf("help shows the password:\n%s", &out)
	}
}

func TestMainExitCode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		behaviour string
		signals   []syscall.Signal
		code      int
		stderr    string
	}{
		{"succeed", nil, 0, ""},
		{"fail", nil, 1, "sample: one reason and another\n"},
		{"refuse", nil, 4, "sample: delete: it is in use\n"},
		{"forbidden", nil, 1, "sample: pause: ERROR: permission denied for table subscriptions (SQLSTATE 42501): " +
			"grant that to the role in DATABASE_URL, or use another (docs/operations.md has the privileges of each)\n"},
		{"standby", nil, 1, "sample: pause: ERROR: cannot execute UPDATE in a read-only transaction (SQLSTATE 25006): " +
			"the server is a standby, or read-only: point DATABASE_URL at the primary (with several hosts, target_session_attrs=primary finds it)\n"},
		{"misuse", nil, 2, "sample: error: unknown flag --nope (see sample --help)\n"},
		{"drain", []syscall.Signal{syscall.SIGINT}, 0, ""},
		{"drain", []syscall.Signal{syscall.SIGTERM}, 0, ""},
		{"give up", []syscall.Signal{syscall.SIGTERM}, 143, "sample: stopped by terminated\n"},
		{"hang", []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}, 130, "sample: aborted by a second signal\n"},
		{"hang", []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}, 143, "sample: aborted by a second signal\n"},
	}
	for _, test := range tests {
		t.Run(test.behaviour, func(t *testing.T) {
			t.Parallel()
			c := begin(t, test.behaviour)
			if len(test.signals) > 0 {
				c.says(t, "started")
				c.signal(t, test.signals[0])
			}
			if len(test.signals) > 1 {
				c.says(t, "draining")
				c.insist(t, test.signals[1])
			}
			c.ends(t, test.code, test.stderr)
		})
	}
}

// Wrappers signal their child and then the group that it is in, microseconds later: that is one request to stop. Here the signals
// differ, because the kernel may merge two that are alike.
func TestMainSignalledWithItsGroup(t *testing.T) {
	t.Parallel()
	c := begin(t, "finish")
	c.says(t, "started")
	c.signal(t, syscall.SIGTERM)
	if err := syscall.Kill(-c.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	c.says(t, "has heard both")
	if _, err := io.WriteString(c.input, "finish\n"); err != nil {
		t.Fatal(err)
	}
	c.ends(t, 0, "")
}

// The same by GNU timeout itself, several times: its two signals are alike, and often merged.
func TestMainUnderTimeout(t *testing.T) {
	t.Parallel()
	timeout, err := exec.LookPath("timeout")
	if err != nil {
		t.Skip("there is no timeout: it is part of GNU coreutils")
	}
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			c := begin(t, "drain slowly", timeout, "60")
			c.says(t, "started")
			c.signal(t, syscall.SIGTERM) // to timeout, which passes it on as it does when the time is over
			c.says(t, "draining")
			c.says(t, "drained")
			c.ends(t, 0, "")
		})
	}
}

// A child is a command under test that runs as a process, in a group of its own.
type child struct {
	*exec.Cmd
	input  io.Writer
	output *bufio.Scanner
	stderr bytes.Buffer
}

// begin starts a command that behaves in some way, under a wrapper if one is given.
func begin(t *testing.T, behaviour string, wrapper ...string) *child {
	t.Helper()
	words := slices.Concat(wrapper, []string{os.Args[0]})
	c := &child{Cmd: exec.CommandContext(t.Context(), words[0], words[1:]...)}
	c.Env = append(os.Environ(), behave+"="+behaviour)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Stderr = &c.stderr
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.output = bufio.NewScanner(stdout)
	if c.input, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// says waits for the next line, which tells where the command is.
func (c *child) says(t *testing.T, want string) {
	t.Helper()
	if !c.output.Scan() {
		t.Fatalf("ended before it said %q, with %q", want, &c.stderr)
	}
	if got := c.output.Text(); got != want {
		t.Fatalf("it says %q, want %q", got, want)
	}
}

func (c *child) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := c.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// insist sends a signal again and again until the command ends, which it does not at once.
func (c *child) insist(t *testing.T, s syscall.Signal) {
	t.Helper()
	ended := make(chan struct{})
	go func() { defer close(ended); c.output.Scan() }()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		c.signal(t, s)
		select {
		case <-ended:
			return
		case <-again.C:
		}
	}
}

func (c *child) ends(t *testing.T, code int, stderr string) {
	t.Helper()
	for c.output.Scan() {
	}
	_ = c.Wait() // an exit code other than 0 is an error to it
	if got := c.ProcessState.ExitCode(); got != code || c.stderr.String() != stderr {
		t.Errorf("got exit code %d and %q, want %d and %q", got, &c.stderr, code, stderr)
	}
}
