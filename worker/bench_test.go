package worker_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// durable returns a migrated database on a server of its own, with fsync and synchronous_commit on.
func durable(b *testing.B) *pgxpool.Pool {
	b.Helper()
	server, err := embeddedpg.Start(b.Context(), embeddedpg.Config{Settings: map[string]string{"shared_buffers": "1GB", "max_wal_size": "4GB"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Stop() })
	config, err := pgxpool.ParseConfig(server.URL("postgres"))
	if err != nil {
		b.Fatal(err)
	}
	config.MaxConns = 40
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	err = pool.AcquireFunc(b.Context(), func(c *pgxpool.Conn) error { return migrations.Outbox.Up(b.Context(), c.Conn()) })
	if err != nil {
		b.Fatal(err)
	}
	return pool
}

// fill publishes n events of 1,000 keys with 160 bytes of JSON each.
func fill(b *testing.B, db outbox.DB, n int) {
	b.Helper()
	_, err := db.Exec(b.Context(), `
		insert into outbox.events (topic, key, payload)
		select 'signals.created', 'key-' || i % 1000,
		       jsonb_build_object('id', i, 'name', 'key-' || i % 1000, 'value', i / 7.0, 'note', repeat('x', 90))
		from generate_series(1, $1) as i`, n)
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDrain empties a backlog of 1,000,000 events with a handler that does nothing.
func BenchmarkDrain(b *testing.B) {
	const events = 1_000_000
	pool := durable(b)
	for b.Loop() {
		b.StopTimer()
		if _, err := pool.Exec(b.Context(), `truncate outbox.events, outbox.subscriptions cascade`); err != nil {
			b.Fatal(err)
		}
		fill(b, pool, events)
		if _, err := pool.Exec(b.Context(), `checkpoint`); err != nil {
			b.Fatal(err)
		}
		w, err := worker.New(pool, worker.Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		var handled atomic.Int64
		s := worker.Subscription{Name: "bench", Topics: []string{"signals.>"}}
		err = worker.Handle(w, s, func(context.Context, *worker.Event[json.RawMessage]) error {
			if handled.Add(1) == events {
				cancel()
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		start := time.Now()
		if err := w.Run(ctx); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(events/time.Since(start).Seconds(), "events/s")
		cancel()
	}
}

var _ = pgx.ErrNoRows
