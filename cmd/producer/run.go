package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/ops"
	"github.com/signalbox-go/signalbox/metrics"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/producer"
)

const description = `Takes signals over HTTP and stores each with its event in one transaction.

Store a random signal, one of your own, or many:

	curl -X POST localhost:8080/ingest

	curl localhost:8080/ingest -H 'Content-Type: application/json' \
	  -d '{"name": "temperature", "value": 21.5}'

	curl localhost:8080/ingest/batch -H 'Content-Type: application/x-ndjson' \
	  --data-binary @signals.ndjson

A signal has a name, a value and maybe a timestamp (RFC 3339, default now). Its event is signals.created in the outbox; workers
receive it ("worker --help").

GET /healthz tells that the process serves, GET /readyz that its database does too.

The database needs the schema: "outbox migrate" creates it. SIGINT or SIGTERM finishes what is running, a second one aborts.`

type flags struct {
	Listen string `default:"127.0.0.1:8080" help:"Serve HTTP here; port 0 takes a free one, which the log tells."`
	ops.Flags
	cli.Database
	cli.Logging
}

// Run serves until ctx is cancelled. The line "listening" of its log has the address.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var flags flags
	if _, err := cli.Parse("producer", description, &flags, args, stdout); err != nil {
		return err
	}
	logger := flags.Logger(stderr)
	slog.SetDefault(logger) // for net/http

	pool, err := cli.Connect(ctx, flags.DatabaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	for _, set := range []migrations.Set{migrations.For(flags.Outbox), migrations.Signals} {
		if err := set.Check(ctx, pool); err != nil {
			return err
		}
	}

	var standby bool
	if err := pool.QueryRow(ctx, `select pg_catalog.pg_is_in_recovery()`).Scan(&standby); err != nil {
		return fmt.Errorf("ask whether the server is a standby: %w", err)
	}
	if standby {
		logger.Warn("nothing can be stored until the server is promoted", "error", engine.ErrStandby)
	}

	listener, err := net.Listen("tcp", flags.Listen)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --listen", err)
	}
	logger.Info("listening", "address", listener.Addr().String())
	m := metrics.New(metrics.Config{Pool: pool, Outbox: flags.Outbox, Logger: logger})
	handler := producer.NewHandler(pool, producer.Config{Outbox: flags.Outbox, Logger: logger, Stored: func(stored []producer.Stored) {
		m.Published(producer.TopicCreated, len(stored))
	}})
	err = flags.WithAdmin(ctx, logger, ops.NewHandler(handler, m), func(ctx context.Context) error {
		return cli.Serve(ctx, listener, handler)
	})
	logger.Info("stopped")
	return err
}
