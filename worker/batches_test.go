package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestBatchesComeBackAsBatches has each event fail once, in calls for many of them: what failed in one call is tried again in one, and
// not in a call for each event or for what is due at the moment.
func TestBatchesComeBackAsBatches(t *testing.T) {
	t.Parallel()
	const all = 3000
	db := pgtest.New(t)
	publishNumbered(t, db, all, func(i int) string { return fmt.Sprint("key-", i) })
	w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	tried, handled := map[int]bool{}, map[int]bool{}
	failed, calls := 0, 0
	s := worker.Subscription{Name: "s", Topics: everything, BreakerAfter: worker.Unlimited}
	err = worker.HandleBatch(w, s, func(_ context.Context, events []*worker.Event[payload]) error {
		mu.Lock()
		defer mu.Unlock()
		if len(tried) < all {
			failed++
			for _, e := range events {
				tried[e.Payload.N] = true
			}
			return errors.New("away")
		}
		calls++
		for _, e := range events {
			handled[e.Payload.N] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	eventually(t, time.Minute, "all are handled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(handled) == all
	})
	mu.Lock()
	defer mu.Unlock()
	if calls > 20+2*failed { // their rows are written, and due, one after the other; there were more than 60 calls once
		t.Errorf("%d calls after %d that failed", calls, failed)
	}
}
