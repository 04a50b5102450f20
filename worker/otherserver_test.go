package worker_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestOtherServer leads the connection of a transactional handler somewhere else than the worker's others: it is refused before a
// handler is called, the session ends, and the next one handles the event.
func TestOtherServer(t *testing.T) {
	t.Parallel()
	db, other := pgtest.New(t), pgtest.New(t)
	for _, d := range []*pgtest.DB{db, other} {
		if _, err := d.Pool.Exec(t.Context(), `create table public.effects (n integer not null)`); err != nil {
			t.Fatal(err)
		}
	}
	var astray, calledThere atomic.Bool
	config := db.Pool.Config()
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		if astray.Load() {
			c.Database = other.Pool.Config().ConnConfig.Database
		}
		return nil
	}
	var log syncBuffer
	w, err := worker.New(openPool(t, config), worker.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	err = worker.HandleTx(w, worker.Subscription{Name: "s", Topics: everything}, func(ctx context.Context, tx pgx.Tx, e *worker.Event[payload]) error {
		if tx.Conn().Config().Database != db.Pool.Config().ConnConfig.Database {
			calledThere.Store(true)
		}
		_, err := tx.Exec(ctx, `insert into public.effects (n) values ($1)`, e.Payload.N)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	eventually(t, 20*time.Second, "it serves", func() bool { return w.Ready() == nil })
	astray.Store(true) // the handler's connection is opened for its first window
	publish(t, db.Pool, "", 1, 2)
	eventually(t, 20*time.Second, "it notices", func() bool { return strings.Contains(log.String(), "another server") || calledThere.Load() })
	astray.Store(false)
	if calledThere.Load() {
		t.Fatal("the handler was called there")
	}
	eventually(t, 30*time.Second, "the event is handled", func() bool {
		var n int
		return db.Pool.QueryRow(t.Context(), `select count(*) from public.effects`).Scan(&n) == nil && n == 1
	})
}
