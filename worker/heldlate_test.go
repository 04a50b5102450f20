package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// TestLateOfStuckKey commits an event late, behind the first event of its key, which fails: whether the line of the key is just full or
// the key is held, the event becomes a delivery, and begins no hold, since later ones of its key are settled or deliveries. In the end,
// each event is handled once.
func TestLateOfStuckKey(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		n    int // events of the key, beside the late one
		held int
	}{
		"full": {100, 0}, // see holdAbove
		"held": {150, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := pgtest.New(t)
			const late = 1000
			event := func(n int) outbox.Event {
				return outbox.Event{Topic: "a", Key: "k", Payload: json.RawMessage(fmt.Sprintf(`{"n": %d}`, n))}
			}
			var (
				mu    sync.Mutex
				order []int
				works atomic.Bool
			)
			retry := worker.Retry{Delay: func(int) time.Duration { return 100 * time.Millisecond }}
			s := worker.Subscription{Name: "s", Topics: everything, Retry: retry, BreakerAfter: worker.Unlimited}
			start(t, db.Pool, worker.Config{}, s, func(_ context.Context, e *worker.Event[payload]) error {
				if !works.Load() {
					return errors.New("not yet")
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, e.Payload.N)
				return nil
			})
			count := func(table string) (n int) {
				if err := db.Pool.QueryRow(ctx, `select count(*) from outbox.`+table).Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			if _, err := outbox.Publish(ctx, db.Pool, event(0)); err != nil {
				t.Fatal(err)
			}
			eventually(t, 10*time.Second, "the first fails", func() bool { return count("deliveries") == 1 })
			tx, err := db.Conn(t).Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := outbox.Publish(ctx, tx, event(late)); err != nil {
				t.Fatal(err)
			}
			var rest []outbox.Event
			for n := 1; n < test.n; n++ {
				rest = append(rest, event(n))
			}
			if _, err := outbox.Publish(ctx, db.Pool, rest...); err != nil {
				t.Fatal(err)
			}
			eventually(t, 10*time.Second, "the line is full", func() bool { return count("deliveries") == 100 && count("held_keys") == test.held })
			if err := tx.Commit(ctx); err != nil {
				t.Fatal(err)
			}
			eventually(t, 10*time.Second, "the late one waits in its line", func() bool { return count("deliveries") == 101 })
			if n := count("held_keys"); n != test.held {
				t.Errorf("%d holds, want %d", n, test.held)
			}
			works.Store(true)
			eventually(t, 20*time.Second, "all are handled", func() bool { return count("deliveries")+count("held_keys") == 0 && settledAll(t, db.Pool) })
			mu.Lock()
			defer mu.Unlock()
			at := slices.Index(order, late)
			if at < 0 || len(order) != test.n+1 {
				t.Fatalf("%d events were handled, want %d once each, with the late one: %v", len(order), test.n+1, order)
			}
			if others := slices.Delete(slices.Clone(order), at, at+1); !slices.IsSorted(others) {
				t.Errorf("handled in the order %v", order)
			}
		})
	}
}
