package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/outbox"
)

// A dbProcess is "outbox db" in a process of its own.
type dbProcess struct {
	cmd    *exec.Cmd
	url    string
	folder string // for temporary files
}

// startDB returns when the database is ready.
func startDB(t *testing.T) *dbProcess {
	t.Helper()
	// The testing package's own folders are closed to the user that root's PostgreSQL runs as.
	folder, err := os.MkdirTemp("/tmp", "outbox-db-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "db")
	cmd.Env = append(os.Environ(), asCommand+"=1", "TMPDIR="+folder)
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "DATABASE_URL=postgres://")
	if err != nil || !ok {
		t.Fatalf("the first line is %q (%v)", line, err)
	}
	return &dbProcess{cmd, "postgres://" + url, folder}
}

// gone waits until nothing is left of the database.
func (p *dbProcess) gone(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, p.url)
		if err == nil {
			_ = conn.Close(ctx)
		}
		left, _ := os.ReadDir(p.folder)
		if err != nil && len(left) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after a minute the folder has %v, and connecting to the database says: %v", left, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestDB(t *testing.T) {
	t.Parallel()
	p := startDB(t)
	// Ready means ready for the other commands.
	if _, err := run(t, "status", "--database-url", p.url); err != nil {
		t.Error(err)
	}
	if out, err := run(t, "migrate", "--database-url", p.url); err != nil || out != "outbox: up to date\nsignals: up to date\n" {
		t.Errorf("migrate: %q, %v", out, err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	p.gone(t)
}

func TestKilledDBLeavesNothing(t *testing.T) {
	t.Parallel()
	p := startDB(t)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); !errors.As(err, &exit) {
		t.Errorf("after SIGKILL: %v", err)
	}
	p.gone(t)
}

// Who waits at a database that somebody has killed should hear of it.
func TestDBThatDied(t *testing.T) {
	t.Parallel()
	db, err := startEmbedded(t.Context(), t.Output(), outbox.Outbox{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	}()
	if err := syscall.Kill(db.server.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := db.watch(t.Context(), 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), "has not answered") {
		t.Errorf("got %v", err)
	}
}
