// Package nats runs servers of NATS for tests: in the process of the test, or as a process of its own that is killed and frozen. Either is
// the server's own code, as a Go module.
package nats

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/signalbox-go/signalbox/brokers/drive"
	"github.com/signalbox-go/signalbox/internal/proc"
)

const role proc.Role = "SIGNALBOX_NATS_SERVER"

// Main makes the test binary a server where it was started as one. TestMain calls it first.
func Main() {
	if !role.Given() {
		return
	}
	var file string
	if err := role.Config(&file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	proc.EndWithParent()
	s, err := start(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	s.WaitForShutdown()
	os.Exit(0)
}

// start starts a server in this process.
func start(file string) (*server.Server, error) {
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		return nil, err
	}
	options.NoSigs = true
	options.NoLog = true
	s, err := server.NewServer(options)
	if err != nil {
		return nil, err
	}
	go s.Start()
	return s, nil
}

// A Server is at the same address and has the same store whenever it runs.
type Server struct {
	Address string // host:port
	file    string
	inside  *server.Server
	process *proc.Process
}

// Start starts a server within this process. The configuration is added to one with an address and JetStream.
func Start(t testing.TB, configuration string) *Server {
	t.Helper()
	s := newServer(t, configuration)
	var err error
	if s.inside, err = start(s.file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.inside.Shutdown()
		s.inside.WaitForShutdown()
	})
	s.wait(t)
	return s
}

// StartProcess starts a server as a process.
func StartProcess(t testing.TB, configuration string) *Server {
	t.Helper()
	s := newServer(t, configuration)
	t.Cleanup(func() { s.Kill() })
	s.Restart(t)
	return s
}

func newServer(t testing.TB, configuration string) *Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	dir := t.TempDir()
	s := &Server{Address: listener.Addr().String(), file: filepath.Join(dir, "nats.conf")}
	s.configure(t, dir, configuration)
	return s
}

func (s *Server) configure(t testing.TB, dir, configuration string) {
	t.Helper()
	text := fmt.Sprintf("listen: %q\njetstream { store_dir: %q, max_mem: 64MB, max_file: 256MB }\n%s\n", s.Address, dir, configuration)
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Reconfigure has the next Restart use another configuration.
func (s *Server) Reconfigure(t testing.TB, configuration string) {
	t.Helper()
	s.configure(t, filepath.Dir(s.file), configuration)
}

// URL is the address of the server as nats://.
func (s *Server) URL() string { return "nats://" + s.Address }

// Kill kills the process at once.
func (s *Server) Kill() {
	if s.process != nil {
		s.process.Kill()
	}
}

// Restart starts the process that was killed again, and waits until it serves.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	env, err := role.Env(s.file)
	if err != nil {
		t.Fatal(err)
	}
	if s.process, err = proc.Start(context.WithoutCancel(t.Context()), proc.Config{Env: []string{env}, Stderr: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	s.wait(t)
}

// Freeze stops the process, and returns when it stands still.
func (s *Server) Freeze(t testing.TB) {
	t.Helper()
	s.process.Signal(syscall.SIGSTOP)
	drive.Until(t, "the server stands still", func() bool { return drive.Stopped(s.process.Pid()) })
}

// Thaw has a frozen process go on.
func (s *Server) Thaw() { s.process.Signal(syscall.SIGCONT) }

func (s *Server) wait(t testing.TB) {
	t.Helper()
	drive.Until(t, "the server serves", func() bool { return drive.Listens(s.Address) })
}
