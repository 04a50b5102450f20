package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestOutageOpensBreaker has one event's handler say that what it calls is away, where each event has one attempt only: the breaker opens for
// it, with the reason, and no attempt is counted.
func TestOutageOpensBreaker(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			var (
				down    atomic.Bool
				handled atomic.Int64
				mu      sync.Mutex
				told    []worker.BreakerState
			)
			changes := func() []worker.BreakerState {
				mu.Lock()
				defer mu.Unlock()
				return append([]worker.BreakerState{}, told...)
			}
			w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), Hooks: []worker.Hooks{{BreakerChanged: func(_ context.Context, b worker.BreakerState) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, b)
			}}}})
			if err != nil {
				t.Fatal(err)
			}
			errAway := errors.New("no such stream")
			s := worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{MaxAttempts: 1}}
			err = f.register(w, s, db, func(_ context.Context, _ execer, e *worker.Event[payload]) error {
				if e.Attempt != 1 {
					t.Errorf("event %d: attempt %d", e.Payload.N, e.Attempt)
				}
				if down.Load() {
					return worker.Outage(errAway)
				}
				handled.Add(1)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			down.Store(true)
			publishNumbered(t, db, 1, func(int) string { return "one" }) // far from what the breaker looks at
			runUntilStopped(t, w)
			eventually(t, 30*time.Second, "the breaker is open", func() bool { return len(changes()) == 1 })
			if b := changes()[0]; !b.Open || !errors.Is(b.Cause, errAway) {
				t.Errorf("the hook was told %+v", b)
			}
			eventually(t, 30*time.Second, "the reason is shown, and no attempt", func() bool {
				list := rows(t, db)
				return len(list) == 1 && list[0].State == "retrying" && list[0].Attempt == 0 &&
					len(list[0].Errors) > 0 && strings.Contains(list[0].Errors[0].Error, "no such stream")
			})
			down.Store(false)
			if err := admin.Probe(t.Context(), db.Pool, "s"); err != nil {
				t.Fatal(err)
			}
			const more = 1000
			publishNumbered(t, db, more, func(i int) string { return fmt.Sprint("key-", i) })
			eventually(t, 30*time.Second, "all are handled, and it is closed", func() bool {
				return handled.Load() >= more+1 && settledAll(t, db.Pool) && len(changes()) == 2
			})
			if list := rows(t, db); len(list) != 0 {
				t.Errorf("left: %+v", list)
			}
		})
	}
}

// TestOutageHaltsWindow has everything answer that what it calls is away: of a window, hardly more begins than runs at the time.
func TestOutageHaltsWindow(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishNumbered(t, db, 1000, func(i int) string { return fmt.Sprint("key-", i) })
	var calls atomic.Int64
	opened := make(chan int64, 1)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), Concurrency: 4, Hooks: []worker.Hooks{{BreakerChanged: func(context.Context, worker.BreakerState) {
		opened <- calls.Load()
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	err = worker.Handle(w, worker.Subscription{Name: "s", Topics: everything, BreakerAfter: 1000}, func(context.Context, *worker.Event[payload]) error {
		calls.Add(1)
		return worker.Outage(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	if n := <-opened; n > 8 {
		t.Errorf("%d events were tried before it opened", n)
	}
}

// TestOutageWithoutBreaker has an event wait where there is no breaker to open: no attempt is counted, and the log says so.
func TestOutageWithoutBreaker(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			publishNumbered(t, db, 1, func(int) string { return "one" })
			var log syncBuffer
			var calls atomic.Int64
			w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			s := worker.Subscription{Name: "s", Topics: everything, BreakerAfter: worker.Unlimited, Retry: worker.Retry{MaxAttempts: 1}}
			var first atomic.Int64
			err = f.register(w, s, db, func(_ context.Context, _ execer, e *worker.Event[payload]) error {
				if e.Attempt != 1 {
					t.Errorf("attempt %d", e.Attempt)
				}
				calls.Add(1)
				now := time.Now().UnixNano()
				if first.CompareAndSwap(0, now) || now-first.Load() < int64(3*time.Second) { // a transaction is tried again at once
					return worker.Outage(errors.New("wrong password"))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			runUntilStopped(t, w)
			eventually(t, 30*time.Second, "it is handled", func() bool { return calls.Load() >= 2 && settledAll(t, db.Pool) })
			if took := time.Since(time.Unix(0, first.Load())); took < 4*time.Second {
				t.Errorf("it was tried again after %v", took)
			}
			if list := rows(t, db); len(list) != 0 || !strings.Contains(log.String(), "wrong password") {
				t.Errorf("left: %+v, logged: %s", list, log.String())
			}
		})
	}
}
