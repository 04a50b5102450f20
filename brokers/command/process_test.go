package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	broker "github.com/signalbox-go/signalbox/brokers/nats"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/proc"
	"github.com/signalbox-go/signalbox/outbox"
)

func TestMain(m *testing.M) {
	broker.Main()
	pgtest.Main(m)
}

// A command is the program, with a database of its own.
type command struct {
	program string
	db      *pgtest.DB
}

// build builds the command from its own module. Go keeps what it has built.
func build(t *testing.T) *command {
	t.Helper()
	c := &command{program: filepath.Join(t.TempDir(), "outbox"), db: pgtest.New(t)}
	goBuild := exec.CommandContext(t.Context(), "go", "build", "-o", c.program, "./cmd/outbox")
	goBuild.Dir = filepath.Join("..", "..")
	if out, err := goBuild.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return c
}

// run runs a verb until it ends, and returns what it printed and its exit code.
func (c *command) run(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	p := exec.CommandContext(t.Context(), c.program, args...)
	p.Env = append(append(os.Environ(), "DATABASE_URL="+c.db.URL), env...)
	p.Stdout, p.Stderr = &out, &diagnostics
	var exit *exec.ExitError
	if err := p.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), diagnostics.String(), p.ProcessState.ExitCode()
}

// show runs a verb with --json that has to succeed.
func (c *command) show(t *testing.T, into any, args ...string) {
	t.Helper()
	out, diagnostics, code := c.run(t, nil, append(args, "--json")...)
	if code != 0 {
		t.Fatalf("%v: exit code %d, %s", args, code, diagnostics)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatal(err)
	}
}

// A relaying is a relay that runs, with what it has logged.
type relaying struct {
	process *proc.Process
	mu      sync.Mutex
	log     bytes.Buffer
}

func (r *relaying) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

// lines returns the lines that have one of the texts.
func (r *relaying) lines(texts ...string) (found []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range strings.Lines(r.log.String()) {
		for _, text := range texts {
			if strings.Contains(line, text) {
				found = append(found, strings.TrimSpace(line))
				break
			}
		}
	}
	return found
}

// relay starts a relay, which ends with the test.
func (c *command) relay(t *testing.T, args ...string) *relaying {
	t.Helper()
	r := &relaying{}
	var err error
	r.process, err = proc.Start(context.WithoutCancel(t.Context()), proc.Config{
		Program: c.program, Args: append([]string{"relay", "run"}, args...), Env: []string{"DATABASE_URL=" + c.db.URL}, Stderr: r,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.process.Signal(syscall.SIGTERM)
		if state := r.process.State(); state.ExitCode() != 0 {
			t.Errorf("the relay ended with exit code %d", state.ExitCode())
		}
		if t.Failed() {
			t.Logf("the relay's log:\n%s", r.log.String())
		}
	})
	return r
}

func (c *command) publish(t *testing.T, topic, key, payload string) outbox.Event {
	t.Helper()
	events, err := outbox.Publish(t.Context(), c.db.Pool, outbox.Event{Topic: topic, Key: key, Payload: json.RawMessage(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return outbox.Event{ID: events[0].ID, UID: events[0].UID}
}

// number returns what a query counts.
func (c *command) number(t *testing.T, sql string) (n int) {
	t.Helper()
	if err := c.db.Pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// stream makes a stream for a topic and what is below it.
func stream(t *testing.T, server *broker.Server, c jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	conn, err := nats.Connect(server.URL(), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.CreateOrUpdateStream(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stored returns the ids of a stream's messages, in order.
func stored(t *testing.T, s jetstream.Stream) (ids []string) {
	t.Helper()
	info, err := s.Info(t.Context())
	if err != nil {
		return nil // it connects again
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			return nil
		}
		ids = append(ids, m.Header.Get("Nats-Msg-Id"))
	}
	return ids
}
