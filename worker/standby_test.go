package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestStandby has a worker refuse to start at a standby. One whose address comes to lead to a standby waits there, not ready and with a
// line that says why, and goes on once the standby is promoted.
func TestStandby(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	pool := migrated(t, server)
	standby := pgtest.Standby(t, server)
	board := newSwitchboard(t, server)
	led, err := pgxpool.New(t.Context(), board.url(t, server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(led.Close)

	l, said := newLedger(), &lines{}
	hire := func(pool *pgxpool.Pool) *worker.Worker {
		w, err := worker.New(pool, worker.Config{Logger: slog.New(slog.NewTextHandler(said, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if err := worker.Handle(w, worker.Subscription{Name: "s", Topics: everything}, record(l)); err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := hire(led)
	runUntilStopped(t, w)
	publish(t, pool, "", 0, 10)
	l.waitFor(t, 10)
	eventually(t, 30*time.Second, "all is settled", func() bool { return settledLag(t, pool) })
	follow(t, server, standby)

	lonely := connect(t, standby)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := hire(lonely).Run(ctx); !errors.Is(err, worker.ErrStandby) {
		t.Errorf("a worker that starts at a standby ends with %v", err)
	}
	board.to(t, standby)
	eventually(t, 30*time.Second, "it waits", func() bool { return said.has("the server is a standby, which takes no writes") && w.Ready() != nil })
	promote(t, standby)
	publish(t, eventuallyWritable(t, lonely), "", 10, 20)
	l.waitFor(t, 20)
	eventually(t, 30*time.Second, "all is settled", func() bool { return settledAll(t, lonely) && w.Ready() == nil })
	if n := len(l.all()); n != 20 {
		t.Errorf("20 events were handled %d times", n)
	}
}

// eventuallyWritable waits until a promotion is over, and what was connected before has noticed.
func eventuallyWritable(t *testing.T, pool *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	eventually(t, 30*time.Second, "it takes writes", func() (yes bool) {
		return pool.QueryRow(t.Context(), `select not current_setting('transaction_read_only')::boolean`).Scan(&yes) == nil && yes
	})
	return pool
}
