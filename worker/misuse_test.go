package worker_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestTransactionIsNotTheHandlers has handlers end the transaction that they were given: they are told that they may not, and what they
// wrote counts once.
func TestTransactionIsNotTheHandlers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	if _, err := db.Pool.Exec(ctx, `create table public.effects (n integer)`); err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{Attempts: 1}}
	err = worker.HandleTx(w, s, func(ctx context.Context, tx pgx.Tx, e *worker.Event[payload]) error {
		if _, err := tx.Exec(ctx, `insert into public.effects values ($1)`, e.Payload.N); err != nil {
			return err
		}
		switch e.Payload.N {
		case 1:
			return tx.Commit(ctx)
		case 2:
			return tx.Rollback(ctx)
		}
		_ = tx.Rollback(ctx) // as one that is deferred
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	publish(t, db.Pool, "", 0, 4)
	eventually(t, 20*time.Second, "two are dead letters", func() bool { return len(rows(t, db)) == 2 && settledLag(t, db.Pool) })
	var effects []int
	var errors string
	err = db.Pool.QueryRow(ctx, `
		select (select array_agg(n order by n) from public.effects), (select string_agg(errors::text, ' ') from outbox.deliveries)`).Scan(&effects, &errors)
	if err != nil || len(effects) != 2 || effects[0] != 0 || effects[1] != 3 {
		t.Errorf("the effects are %v, %v; want those of 0 and 3", effects, err)
	}
	if n := strings.Count(errors, "must not commit or roll it back"); n != 2 {
		t.Errorf("the errors are %s", errors)
	}
}

// TestHandlerEndsItsGoroutine has a handler do what testing.T's FailNow does. The session ends, and the event comes again.
func TestHandlerEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	l, first := newLedger(), true
	err = worker.HandleTx(w, worker.Subscription{Name: "s", Topics: everything}, func(_ context.Context, _ pgx.Tx, e *worker.Event[payload]) error {
		if first {
			first = false
			runtime.Goexit()
		}
		l.add(e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	publish(t, db.Pool, "k", 0, 3)
	l.waitFor(t, 3)
}
