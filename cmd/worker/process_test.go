package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// Some tests kill workers: with this in its environment, the test binary is the command.
const processEnv = "SIGNALBOX_TEST_PROCESS"

func TestMain(m *testing.M) {
	if os.Getenv(processEnv) != "" {
		cli.Main("worker", Run)
	}
	pgtest.Main(m)
}

// A process is a worker that can be killed.
type process struct {
	running
	cmd *exec.Cmd
	end func() error // waits until it has ended
}

func spawn(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.CommandContext(t.Context(), os.Args[0], args...)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.grew = make(chan struct{}, 1)
	p.cmd.Env = append(os.Environ(), processEnv+"=1")
	log, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	collected := make(chan struct{})
	go func() { defer close(collected); p.collect(io.TeeReader(log, t.Output())) }()
	p.end = sync.OnceValue(func() error { <-collected; return p.cmd.Wait() })
	p.stop = func() error { p.signal(syscall.SIGTERM); return p.end() }
	t.Cleanup(func() { p.signal(syscall.SIGKILL); _ = p.end() })
	return p
}

// signal does nothing to a process that has ended.
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// died waits until the process has ended by itself, and returns its exit code.
func (p *process) died(t *testing.T) int {
	t.Helper()
	late := time.AfterFunc(30*time.Second, func() { t.Error("it did not die within 30s"); p.signal(syscall.SIGKILL) })
	defer late.Stop()
	var exit *exec.ExitError
	if err := p.end(); !errors.As(err, &exit) {
		t.Fatalf("it ended with %v", err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// eventually waits until the condition holds.
func eventually(t *testing.T, within time.Duration, what string, condition func() bool) {
	t.Helper()
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
