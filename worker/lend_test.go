package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestMistreatedTransaction has handlers do what they must not with theirs: their attempt fails and says why, those beside it
// count, and the session goes on.
func TestMistreatedTransaction(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		wrong  func(ctx context.Context, tx pgx.Tx) error
		reason string
	}{
		{"commit", func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) }, "ended its transaction"},
		{"commit, hidden", func(ctx context.Context, tx pgx.Tx) error { _ = tx.Commit(ctx); return nil }, "ended its transaction"},
		{"rollback", func(ctx context.Context, tx pgx.Tx) error { _ = tx.Rollback(ctx); return nil }, "ended its transaction"},
		{"statement, reported", func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, `rollback`); return err }, "ended its transaction"},
		{"rollback and an error", func(ctx context.Context, tx pgx.Tx) error { _ = tx.Rollback(ctx); return errors.New("mine") }, "mine"},
		{"rows", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Query(ctx, `select generate_series(1, 100000)`) //nolint:sqlclosecheck // it is the mistake
			return err
		}, "close its rows"},
		{"rows and a panic", func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Query(ctx, `select generate_series(1, 100000)`) //nolint:sqlclosecheck // it is the mistake
			panic("mine")
		}, "panicked: mine"},
		{"batch", func(ctx context.Context, tx pgx.Tx) error {
			b := &pgx.Batch{}
			b.Queue(`select 1`)
			b.Queue(`select 2`)
			tx.SendBatch(ctx, b)
			return nil
		}, "close its rows"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			if _, err := db.Pool.Exec(t.Context(), `create table public.effects (n integer not null)`); err != nil {
				t.Fatal(err)
			}
			var log syncBuffer
			w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			var calls atomic.Int64
			s := worker.Subscription{
				Name: "s", Topics: everything,
				Retry: worker.Retry{MaxAttempts: 2, Delay: func(int) time.Duration { return time.Millisecond }},
			}
			err = worker.HandleTx(w, s, func(ctx context.Context, tx pgx.Tx, e *worker.Event[payload]) error {
				if _, err := tx.Exec(ctx, `insert into public.effects (n) values ($1)`, e.Payload.N); err != nil {
					return err
				}
				if e.Payload.N == 2 {
					calls.Add(1)
					return tt.wrong(ctx, tx)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			publish(t, db.Pool, "", 1, 4)
			runUntilStopped(t, w)
			eventually(t, 20*time.Second, "the event is dead", func() bool {
				list := rows(t, db)
				return len(list) == 1 && list[0].N == 2 && list[0].State == "dead"
			})
			for _, failure := range rows(t, db)[0].Errors {
				if !strings.Contains(failure.Error, tt.reason) || strings.Contains(failure.Error, "context canceled") {
					t.Errorf("it failed because of %q, want %q", failure.Error, tt.reason)
				}
			}
			var effects []int
			if err := db.Pool.QueryRow(t.Context(), `select array_agg(n order by n) from public.effects`).Scan(&effects); err != nil {
				t.Fatal(err)
			}
			if len(effects) != 2 || effects[0] != 1 || effects[1] != 3 {
				t.Errorf("the effects are %v, want those of 1 and 3", effects)
			}
			if calls.Load() != 3 { // with the others, alone, and again
				t.Errorf("the handler was called %d times", calls.Load())
			}
			if strings.Contains(log.String(), "stopped serving") {
				t.Errorf("the session did not survive: %s", log.String())
			}
		})
	}
}

// TestAfterConnect has what a pool's AfterConnect sets up in the connection of a transactional handler.
func TestAfterConnect(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	config := db.Pool.Config()
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `select set_config('shop.tenant', 'north', false)`)
		return err
	}
	w, err := worker.New(openPool(t, config), worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	tenant := make(chan string, 1)
	s := worker.Subscription{Name: "s", Topics: everything}
	err = worker.HandleTx(w, s, func(ctx context.Context, tx pgx.Tx, _ *worker.Event[payload]) error {
		var name string
		if err := tx.QueryRow(ctx, `select current_setting('shop.tenant')`).Scan(&name); err != nil {
			return worker.DeadLetter(err)
		}
		tenant <- name
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, db.Pool, "", 1, 2)
	runUntilStopped(t, w)
	select {
	case name := <-tenant:
		if name != "north" {
			t.Errorf("the tenant is %q", name)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the handler found no tenant")
	}
}

// TestFailedAfterConnect has a worker refuse to start where its connections cannot be set up.
func TestFailedAfterConnect(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	errNo := errors.New("no such type")
	config := db.Pool.Config()
	config.AfterConnect = func(context.Context, *pgx.Conn) error { return errNo }
	w, err := worker.New(openPool(t, config), worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Handle(w, worker.Subscription{Name: "s", Topics: everything}, record(newLedger())); err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); !errors.Is(err, errNo) {
		t.Errorf("got %v", err)
	}
}

func openPool(t *testing.T, config *pgxpool.Config) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
