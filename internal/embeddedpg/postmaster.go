package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

var (
	errPortTaken  = errors.New("the port is in use")
	errStillInUse = errors.New("processes of the killed server are still there")
)

const (
	startPatience     = time.Minute     // from the start of postgres to its first connection, recovery included
	interruptPatience = 5 * time.Second // from an interrupt to a kill, for short-lived children
)

// A postmaster is one run of postgres: a restart makes another.
type postmaster struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

func (p *postmaster) pid() int {
	if p == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// launch runs postgres on s.port and returns when it accepts connections. It sets s.postmaster.
func (s *Server) launch(ctx context.Context) error {
	log, err := os.OpenFile(s.home.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	defer log.Close()
	logStart, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}

	// No context: ctx bounds the start, not the life of the server.
	cmd := s.account.command(context.Background(), filepath.Join(s.tools.bin, "postgres"),
		"-D", s.home.data(), "-p", strconv.Itoa(s.port))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{s.home.dataLock}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	p := &postmaster{cmd: cmd, done: make(chan struct{})}
	s.postmaster = p
	watchErr := s.watchdog.watch(cmd.Process.Pid)
	go func() {
		_ = cmd.Wait()
		// The number is free for others from now on. A watchdog that is gone cannot misuse it.
		_ = s.watchdog.watch(0)
		close(p.done)
	}()

	err = watchErr
	if err == nil {
		err = s.awaitReady(ctx, p)
	}
	if err == nil {
		return nil
	}
	// Without a server, or one that nobody would watch.
	return s.explain(errors.Join(err, p.shutdown()), logStart)
}

// awaitReady connects until it works: the only proof that address, port and password are right.
func (s *Server) awaitReady(ctx context.Context, p *postmaster) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-p.done:
			return fmt.Errorf("postgres ended: %v", p.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// explain adds what the server wrote since offset: the sentinel for what a retry may cure, and the last lines.
func (s *Server) explain(err error, offset int64) error {
	text, readErr := os.ReadFile(s.home.log())
	if readErr != nil || int64(len(text)) <= offset {
		return fmt.Errorf("start postgres: %w", err)
	}
	log := strings.TrimSpace(string(text[offset:]))
	switch {
	case strings.Contains(log, "could not create any TCP/IP sockets"):
		err = fmt.Errorf("%w: %w", errPortTaken, err)
	case strings.Contains(log, "is still in use"), strings.Contains(log, "lock file \"postmaster.pid\" already exists"):
		err = fmt.Errorf("%w: %w", errStillInUse, err)
	}
	const last = 10
	lines := strings.Split(log, "\n")
	lines = lines[max(0, len(lines)-last):]
	return fmt.Errorf("start postgres: %w; its log ends:\n\t%s", err, strings.Join(lines, "\n\t"))
}

// shutdown ends the server, if it runs: fast, which disconnects its clients and leaves clean data behind;
// ever less politely if it hangs.
func (p *postmaster) shutdown() error {
	if p == nil {
		return nil
	}
	for _, step := range []struct {
		signal   os.Signal
		patience time.Duration
	}{
		{syscall.SIGINT, 20 * time.Second},  // fast
		{syscall.SIGQUIT, 10 * time.Second}, // immediate
		{syscall.SIGKILL, 10 * time.Second},
	} {
		_ = p.cmd.Process.Signal(step.signal) // An error says that it has ended: so does done.
		select {
		case <-p.done:
			return nil
		case <-time.After(step.patience):
		}
	}
	return fmt.Errorf("stop postgres: process %d does not end", p.pid())
}

// freePort finds a port that nobody listens on. It looks below the ports that systems hand out to outgoing connections:
// while the server is down, clients that try to reconnect would take the port themselves (even connect to themselves).
func freePort() (int, error) {
	var err error
	for range 100 {
		port := 15000 + rand.IntN(15000)
		var l net.Listener
		if l, err = net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}
