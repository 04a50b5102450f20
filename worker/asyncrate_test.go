package worker_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestAsyncParksBesideRate has an event of a pipelined key be slow while the next one of the key waits for its token: both leave the window together,
// and the next one is no less tried for that.
func TestAsyncParksBesideRate(t *testing.T) {
	t.Parallel()
	const all = 6
	db := pgtest.New(t)
	publish(t, db.Pool, "key", 0, all)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var ns []int
	var slow []func(error)
	s := worker.Subscription{
		Name: "s", Topics: everything, Rate: 5, RateBurst: 1, ParkAfter: 30 * time.Millisecond, Timeout: time.Minute, BreakerAfter: worker.Unlimited,
	}
	err = worker.HandleAsync(w, s, worker.Pipelined, func(_ context.Context, e *worker.Event[payload], done func(error)) {
		mu.Lock()
		defer mu.Unlock()
		slow = append(slow, done)
		ns = append(ns, e.Payload.N)
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	handled := func() []int {
		mu.Lock()
		defer mu.Unlock()
		return slices.Sorted(slices.Values(ns))
	}
	eventually(t, 60*time.Second, fmt.Sprint("all ", all, " are handled, and settled"), func() bool {
		if list := rows(t, db); len(list) > 0 && list[0].State == "running" { // the head is parked, and what is behind it was settled in one way or the other
			mu.Lock()
			for _, done := range slow {
				done(nil)
			}
			slow = nil
			mu.Unlock()
		}
		return len(handled()) >= all && settledAll(t, db.Pool) && len(rows(t, db)) == 0
	})
	if got := handled(); len(slices.Compact(got)) != all {
		t.Errorf("handled %v", got)
	}
}
