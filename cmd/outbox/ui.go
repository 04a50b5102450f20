package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/signalbox-go/signalbox/dashboard"
	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/migrations"
)

type uiCommand struct {
	Listen   string `default:"127.0.0.1:8090" env:"SIGNALBOX_UI_LISTEN" help:"Serve here: an address and a port, 0 for a free one."`
	ReadOnly bool   `env:"SIGNALBOX_UI_READ_ONLY" help:"Show everything and change nothing."`
	// Not shown as flags: what is on a command line, everybody on the machine can read.
	Token    string `env:"SIGNALBOX_UI_TOKEN" hidden:""`
	User     string `env:"SIGNALBOX_UI_USER" hidden:""`
	Password string `env:"SIGNALBOX_UI_PASSWORD" hidden:""`
	cli.Database
	cli.Logging
}

// Help is what "outbox ui --help" explains.
func (*uiCommand) Help() string {
	return `Serves the dashboard: rates, lag, dead letters, events with what became of them. What failed can be retried, skipped or discarded
there, and subscriptions be paused, resumed and replayed.

	outbox ui                                                 # http://127.0.0.1:8090
	SIGNALBOX_UI_TOKEN=$(openssl rand -hex 16) outbox ui --listen :8090
	outbox ui --read-only

Anyone who reaches it sees every payload. So it answers on this machine alone, unless it is told who may come in, with

	SIGNALBOX_UI_TOKEN                           to log in with, or to send as "Authorization: Bearer …"
	SIGNALBOX_UI_USER and SIGNALBOX_UI_PASSWORD  which the browser asks for

Both travel in clear text: put TLS in front of it. Each action is logged with who did what to how many.`
}

func (c *uiCommand) Run(ctx context.Context, std *console) error {
	logger := c.Logger(std.err)
	config := dashboard.Config{Outbox: c.Outbox, Logger: logger, ReadOnly: c.ReadOnly, Token: c.Token, User: c.User, Password: c.Password}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --listen", err)
	}
	defer func() { _ = listener.Close() }() // closed before, unless something fails
	if c.Token == "" && c.Password == "" {
		if !loopback(listener.Addr()) {
			return fmt.Errorf("%s can be reached from elsewhere, and the dashboard shows every payload: set SIGNALBOX_UI_TOKEN, or "+
				"SIGNALBOX_UI_USER and SIGNALBOX_UI_PASSWORD, or leave out --listen", c.Listen)
		}
		config.Hosts = loopbackHosts
	}
	pool, err := cli.Connect(ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := migrations.For(c.Outbox).Check(ctx, pool); err != nil {
		return err
	}
	handler, err := dashboard.NewHandler(pool, config)
	if errors.Is(err, dashboard.ErrInvalidConfig) {
		return &cli.UsageError{Err: fmt.Errorf("SIGNALBOX_UI_TOKEN, SIGNALBOX_UI_USER and SIGNALBOX_UI_PASSWORD: %w", err)}
	}
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, handler.Close)()
	fmt.Fprintf(std.out, "The dashboard is at http://%s/\n", reachable(listener.Addr()))
	return cli.Serve(ctx, listener, handler)
}

// loopbackHosts are the names under which a browser on this machine asks for it.
var loopbackHosts = []string{"localhost", "127.0.0.1", "::1"}

// reachable is an address for a browser on this machine.
func reachable(address net.Addr) string {
	if tcp, ok := address.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("localhost:%d", tcp.Port)
	}
	return address.String()
}

// loopback reports whether only this machine reaches an address.
func loopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
