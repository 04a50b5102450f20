package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/ops"
	"github.com/signalbox-go/signalbox/metrics"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

type relayCommands struct {
	Run   relayRunCommand   `cmd:"" default:"withargs" help:"Send events to Kafka, NATS, RabbitMQ or webhooks, until Ctrl-C. The default: \"relay --to …\" runs."`
	Check relayCheckCommand `cmd:"" help:"Try the connections, permissions and destinations of relays, and send nothing."`
}

type relayRunCommand struct {
	relayFlags
	DryRun          bool              `env:"-" help:"Show where the newest events would go, and send and settle nothing."`
	Limit           int               `env:"-" default:"20" help:"How many events --dry-run shows of each relay, 1 to 1000."`
	SkipCheck       bool              `help:"Start although a sink cannot be reached or refuses: what cannot be sent waits."`
	Retention       cli.DurationLimit `default:"168h" help:"How long handled events stay in the log, such as 168h for a week, or unlimited. Give all workers the same."`
	ShutdownTimeout cli.DurationLimit `default:"30s" help:"What messages in flight may take when the relay is stopped, or unlimited."`
	asJSON
	ops.Flags
	cli.Database
	cli.Logging
}

// Help is what "outbox relay run --help" explains.
func (*relayRunCommand) Help() string {
	return `Sends the events of an outbox on. What is sent where is said by flags, for one relay, or by a file, for several.

	outbox relay --to nats://localhost:4222 --subscription to-nats --topics 'orders.>' --source https://shop.example/orders
	outbox relay run --config relays.yaml --admin 127.0.0.1:8082
	outbox relay run --config relays.yaml --dry-run

` + sinkHelp + `
Passwords and the like come from environment variables or files, never from a URL. docs/relay.md has all of it: what is guaranteed, templates
of --route, the file, sizes.

A relay is a subscription: "outbox status", "outbox deliveries list" and the dashboard show it, and relays with the same name share it. At the
start, each sink is tried. Later, while one is away, its events wait, and no attempt is used up. SIGINT or SIGTERM lets messages in flight be
acknowledged.

` + relayExitCodes
}

const relayExitCodes = `Exit codes: those of all verbs ("outbox --help"), and 5 where a sink cannot be reached, refuses, or lacks a destination.`

// exitSink is the code for a sink that cannot be used.
const exitSink = 5

func (r *relayRunCommand) Run(ctx context.Context, c *console) error {
	logger := r.Logger(c.err)
	slog.SetDefault(logger) // for net/http, and for sinks
	return r.with(ctx, r.Database, func(pool *database, relays relayList) error {
		if r.DryRun {
			return r.dryRun(ctx, c, pool, relays)
		}
		return r.serve(ctx, logger, pool, relays)
	})
}

// serve runs the relays.
func (r *relayRunCommand) serve(ctx context.Context, logger *slog.Logger, pool *database, relays relayList) error {
	m := metrics.New(metrics.Config{Pool: pool.pool, Outbox: r.Outbox, Logger: logger})
	cfg := worker.Config{Outbox: r.Outbox, Logger: logger, Retention: time.Duration(r.Retention), ShutdownTimeout: time.Duration(r.ShutdownTimeout)}
	if r.Admin != "" {
		cfg.Hooks = []worker.Hooks{m.Hooks()} // else nothing could read them
	}
	w, err := worker.New(pool.pool, cfg)
	if err != nil {
		return err
	}
	for _, l := range relays {
		if err := relay.Handle(w, l.spec.subscription(), l.sink, l.config); err != nil {
			return &cli.UsageError{Err: err}
		}
	}
	if !r.SkipCheck {
		for _, l := range relays {
			if err := l.check(ctx, l.destinations(nil)); err != nil {
				return sinkError(ctx, l, err)
			}
		}
	}
	for _, l := range relays {
		logger.Info("relaying", "subscription", l.spec.Subscription, "to", l.place)
	}
	err = r.WithAdmin(ctx, logger, ops.NewHandler(ops.NewHealth(w.Ready), m), w.Run)
	logger.Info("stopped")
	return err
}

// sinkError says which relay's sink cannot be used.
func sinkError(ctx context.Context, l *relayed, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &cli.ExitError{Code: exitSink, Err: fmt.Errorf("relay %s to %s: %w", l.spec.Subscription, l.place, err)}
}

// checkTimeout is how long a sink may take to be tried.
const checkTimeout = 20 * time.Second

// check tries a relay's sink.
func (l *relayed) check(ctx context.Context, destinations []string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := l.sink.Check(ctx, destinations)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("it does not answer within %v: %w", checkTimeout, err)
	}
	return err
}
