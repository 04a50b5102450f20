package cli_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

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
			"point DATABASE_URL at the primary, where it can be written\n"},
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
			command := exec.CommandContext(t.Context(), os.Args[0])
			command.Env = append(os.Environ(), behave+"="+test.behaviour)
			var stderr bytes.Buffer
			command.Stderr = &stderr
			stdout, err := command.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stdout)
			for _, signal := range test.signals {
				if !lines.Scan() { // "started", then "draining": the command is where the signal is to find it
					t.Fatalf("ended before %s", signal)
				}
				if err := command.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := io.Copy(io.Discard, stdout); err != nil {
				t.Fatal(err)
			}
			_ = command.Wait() // an exit code other than 0 is an error to it
			if code := command.ProcessState.ExitCode(); code != test.code || stderr.String() != test.stderr {
				t.Errorf("got exit code %d and %q, want %d and %q", code, &stderr, test.code, test.stderr)
			}
		})
	}
}
