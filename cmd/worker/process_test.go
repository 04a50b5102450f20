package main

import (
	"fmt"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/proc"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// Some tests kill workers: in this role, the test binary is the command.
const processRole proc.Role = "SIGNALBOX_TEST_PROCESS"

func TestMain(m *testing.M) {
	if processRole.Given() {
		proc.EndWithParent()
		cli.Main("worker", Run)
	}
	pgtest.Main(m)
}

// A process is a worker that can be killed.
type process struct {
	running
	*proc.Process
	end func() error // waits until it has ended
}

func spawn(t *testing.T, args ...string) *process {
	t.Helper()
	env, err := processRole.Env(true)
	if err != nil {
		t.Fatal(err)
	}
	log, write := io.Pipe()
	p := &process{running: running{grew: make(chan struct{}, 1)}}
	p.Process, err = proc.Start(t.Context(), proc.Config{Args: args, Env: []string{env}, Stderr: write, Group: true})
	if err != nil {
		t.Fatal(err)
	}
	collected := make(chan struct{})
	go func() { defer close(collected); p.collect(io.TeeReader(log, t.Output())) }()
	p.end = sync.OnceValue(func() error {
		state := p.State()
		_ = write.Close()
		<-collected
		if !state.Success() {
			return fmt.Errorf("it ended with %v", state)
		}
		return nil
	})
	p.stop = func() error { p.Signal(syscall.SIGTERM); return p.end() }
	t.Cleanup(func() { p.Kill(); _ = p.end() })
	return p
}

// died waits until the process has ended by itself, and returns its exit code.
func (p *process) died(t *testing.T) int {
	t.Helper()
	late := time.AfterFunc(time.Minute, func() { t.Error("it did not die within a minute"); p.Signal(syscall.SIGKILL) })
	defer late.Stop()
	if err := p.end(); err == nil {
		t.Fatal("it ended well")
	}
	return p.State().ExitCode()
}

// eventually waits until the condition holds. A machine that is busy with other tests has no less than a minute.
func eventually(t *testing.T, within time.Duration, what string, condition func() bool) {
	t.Helper()
	within = max(within, time.Minute)
	for deadline := time.Now().Add(within); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// settled reports whether the only subscription has nothing left to do.
func settled(t *testing.T, db outbox.DB) bool {
	t.Helper()
	status, err := admin.GetStatus(t.Context(), db)
	if err != nil || len(status.Subscriptions) != 1 {
		return false // the server restarts, or the subscription is yet to be created
	}
	s := status.Subscriptions[0]
	return s.Lag.Events == 0 && s.Deliveries["retrying"]+s.Deliveries[admin.Blocked]+s.Deliveries["running"] == 0
}
