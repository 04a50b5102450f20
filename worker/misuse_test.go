package worker_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

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
