package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/demo"
)

const (
	defaultListen = "127.0.0.1:8080"
	anyPort       = "127.0.0.1:0"
)

type demoCommand struct {
	For     cli.DurationLimit `default:"10s" help:"How long to send traffic, or unlimited: until Ctrl-C."`
	Rate    int               `default:"20" help:"Requests a second; 0 for none but your own."`
	Workers int               `default:"2" help:"Workers of each subscription, 1 to 32."`
	// No default here: whether it was given makes a difference.
	Listen string `placeholder:"ADDR" help:"Serve the producer here. By default 127.0.0.1:8080, or a free port where that is taken."`
	JSON   bool   `name:"json" help:"End standard output with the result as a JSON object, and tell the story on standard error."`
	cli.Database
}

// Help is what "outbox demo --help" explains.
func (*demoCommand) Help() string {
	return `Runs a producer and workers for two subscriptions, sends traffic over HTTP, and tells what happens to each event.

	outbox demo
	outbox demo --for unlimited          # until Ctrl-C: send signals of your own meanwhile
	outbox demo --rate 1000 --workers 4  # one line a second
	outbox demo --json | jq .latency_ms

Without DATABASE_URL, it starts a PostgreSQL of its own from the programs on this machine. With it, it uses that database: it
migrates the schema, and removes its subscriptions at the end; the signals and events stay.

It exits with 0 only if every event that was published reached every subscription. The JSON object is:

	{"published": n,
	 "subscriptions": {"log": {"delivered": n, "duplicates": n, "missing": n}, "audit": …},
	 "latency_ms": {"p50": x, "p99": x}}

where delivered counts distinct events, and latency is from before a request is sent until the handler is called.`
}

func (c *demoCommand) Run(ctx context.Context, std *console) (err error) {
	if err := c.check(); err != nil {
		return &cli.UsageError{Err: err}
	}
	story := std.out
	if c.JSON {
		story = std.err
	}
	// The address first: if that is wrong, nothing has been started in vain.
	listener, err := c.listen(story)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // closed before, unless something fails
	board, err := net.Listen("tcp", anyPort)
	if err != nil {
		return fmt.Errorf("listen for the dashboard: %w", err)
	}
	defer func() { _ = board.Close() }()

	var ownURL string
	var pool *pgxpool.Pool
	if c.DatabaseURL == "" {
		db, err := startEmbedded(ctx, story, c.Outbox)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.stop()) }()
		ownURL, pool = db.url, db.pool
	} else {
		if pool, err = cli.Connect(ctx, c.DatabaseURL); err != nil {
			return err
		}
		defer pool.Close()
		// Told, since the database is somebody's.
		migrated, err := migrate(ctx, pool, c.Outbox, bothSets(c.Outbox), "")
		if err != nil {
			return err
		}
		fmt.Fprint(story, migrated.text())
	}

	report, err := demo.Run(ctx, demo.Config{
		Pool: pool, Outbox: c.Outbox, OwnURL: ownURL, Listener: listener, Dashboard: board, For: max(0, time.Duration(c.For)), Rate: c.Rate, Workers: c.Workers, Out: story,
		// What workers usually log would drown the story.
		Logger: cli.Logging{LogLevel: "warn", LogFormat: "text"}.Logger(std.err),
	})
	if c.JSON && report != nil { // also of a demo that did not succeed
		err = errors.Join(err, std.print(report))
	}
	return err
}

func (c *demoCommand) check() error {
	switch {
	case c.Rate < 0:
		return fmt.Errorf("--rate is %d, must be at least 0", c.Rate)
	case c.Workers < 1 || c.Workers > 32:
		return fmt.Errorf("--workers is %d, must be 1 to 32", c.Workers)
	}
	return nil
}

// listen takes the address that was asked for, or the usual one, or any.
func (c *demoCommand) listen(story io.Writer) (net.Listener, error) {
	if c.Listen != "" {
		listener, err := net.Listen("tcp", c.Listen)
		if err != nil {
			return nil, fmt.Errorf("%w: choose another address with --listen", err)
		}
		return listener, nil
	}
	listener, err := net.Listen("tcp", defaultListen)
	if errors.Is(err, syscall.EADDRINUSE) {
		if listener, err = net.Listen("tcp", anyPort); err == nil {
			fmt.Fprintf(story, "%s is taken by another program: the producer listens on %s instead.\n", defaultListen, listener.Addr())
		}
	}
	return listener, err
}
