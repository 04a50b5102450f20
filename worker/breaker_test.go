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
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestBreakerIsShown has an outage open the breaker, and its end close it: the hook and the status say so, beside a hook that breaks, and
// the worker stays ready. An operator has it probe at once.
func TestBreakerIsShown(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			var (
				log  syncBuffer
				down atomic.Bool
				mu   sync.Mutex
				told []worker.BreakerState
			)
			changes := func() []worker.BreakerState {
				mu.Lock()
				defer mu.Unlock()
				return append([]worker.BreakerState{}, told...)
			}
			openedAt := func() *time.Time {
				status, err := admin.GetStatus(t.Context(), db.Pool)
				if err != nil {
					t.Fatal(err)
				}
				return status.Subscriptions[0].BreakerOpenedAt
			}
			w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Hooks: []worker.Hooks{
				{BreakerChanged: func(context.Context, worker.BreakerState) { panics() }},
				{BreakerChanged: func(_ context.Context, b worker.BreakerState) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, b)
				}},
			}})
			if err != nil {
				t.Fatal(err)
			}
			errAway := errors.New("connection refused")
			s := worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{InitialInterval: 20 * time.Millisecond}}
			err = f.register(w, s, db, func(context.Context, execer, *worker.Event[payload]) error {
				if down.Load() {
					return errAway
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			down.Store(true)
			begun := time.Now()
			publishNumbered(t, db, 100, func(i int) string { return fmt.Sprint("key-", i) })
			runUntilStopped(t, w)
			eventually(t, 30*time.Second, "the status says that it is open", func() bool { return len(changes()) == 1 && openedAt() != nil })
			if b := changes()[0]; b.Subscription != "s" || !b.Open || b.At.Before(begun) || b.At.After(time.Now()) || !errors.Is(b.Cause, errAway) {
				t.Errorf("the hook was told %+v", b)
			}
			if at := *openedAt(); time.Since(at) > time.Since(begun) {
				t.Errorf("it is open since %v", at)
			}
			if err := admin.Probe(t.Context(), db.Pool, "s"); err != nil {
				t.Fatal(err)
			}
			eventually(t, 20*time.Second, "it probes", func() bool { return strings.Contains(log.String(), "an operator asked for it") })
			if err := w.Ready(); err != nil {
				t.Errorf("with an open breaker: %v", err)
			}
			down.Store(false)
			eventually(t, 30*time.Second, "it is closed", func() bool {
				publish(t, db.Pool, "", 1000, 1100) // it takes some to double what is read
				return len(changes()) == 2 && openedAt() == nil
			})
			if b := changes()[1]; b.Subscription != "s" || b.Open || b.At.Before(changes()[0].At) || b.Cause != nil {
				t.Errorf("the hook was told %+v", b)
			}
		})
	}
}

// TestBreakerOpensWithinWindow has the first event of each key fail its only attempt, and the second succeed, all in one window: the breaker
// opens while what became of them is recorded. What was given up by then stays so. Tried again, it would come after the later event of its key.
func TestBreakerOpensWithinWindow(t *testing.T) {
	t.Parallel()
	const keys = 60
	db := pgtest.New(t)
	publishNumbered(t, db, 2*keys, func(i int) string { return fmt.Sprint("key-", i%keys) })
	var mu sync.Mutex
	second := map[string]bool{}
	handled := 0
	s := worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{MaxAttempts: 1, InitialInterval: time.Millisecond}}
	start(t, db.Pool, worker.Config{Concurrency: 5120}, s, func(_ context.Context, e *worker.Event[payload]) error { // so all are in the first window
		mu.Lock()
		defer mu.Unlock()
		switch {
		case e.Payload.N >= keys:
			second[e.Key] = true
			handled++
			return nil
		case second[e.Key]:
			t.Errorf("%s: its first event came after its second", e.Key)
			return nil
		}
		return errors.New("not this one")
	})
	eventually(t, 30*time.Second, "all is settled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return handled == keys && settledAll(t, db.Pool)
	})
	dead := 0
	for _, r := range rows(t, db) {
		if r.State == string(outbox.Dead) {
			dead++
		}
	}
	if dead != keys {
		t.Errorf("%d of %d are dead letters", dead, keys)
	}
}
