package worker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestNotes has a worker tell where it sends to, what is in flight and what failed last, in both forms of flight: read from windows, and parked.
func TestNotes(t *testing.T) {
	t.Parallel()
	const all = 40
	db := pgtest.New(t)
	publishNumbered(t, db, all, func(i int) string { return fmt.Sprint("key-", i) })
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), PollInterval: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var waiting []func(error)
	s := worker.Subscription{Name: "s", Topics: everything, ParkAfter: 100 * time.Millisecond, SendsTo: "shelf://left\nand\x00right"}
	err = worker.HandleAsync(w, s, worker.Strict, func(_ context.Context, _ *worker.Event[payload], done func(error)) {
		mu.Lock()
		defer mu.Unlock()
		waiting = append(waiting, done)
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := runUntilStopped(t, w)
	looks := func() admin.SubscriptionStatus {
		status, err := admin.GetStatus(t.Context(), db.Pool)
		if err != nil {
			t.Fatal(err)
		}
		if len(status.Subscriptions) != 1 {
			return admin.SubscriptionStatus{}
		}
		return status.Subscriptions[0]
	}
	eventually(t, 30*time.Second, "all are in flight", func() bool { return looks().InFlight == all && len(rows(t, db)) == all })
	list, err := admin.ListSubscriptions(t.Context(), db.Pool)
	if now := looks(); err != nil || now.SendsTo != "shelf://left" || list[0].SendsTo != "shelf://left" || now.LastFailure != nil {
		t.Errorf("%v, %+v, %+v", err, now, list[0])
	}
	mu.Lock()
	for i, done := range waiting {
		if i == 0 {
			done(worker.DeadLetter(errors.New("too large\nby far")))
		} else {
			done(nil)
		}
	}
	mu.Unlock()
	eventually(t, 30*time.Second, "none is in flight", func() bool {
		now := looks()
		return now.InFlight == 0 && now.LastFailure != nil && now.LastFailure.Error == "dead letter: too large" && time.Since(now.LastFailure.At) < time.Minute
	})
	stop()
	if now := looks(); now.SendsTo != "" || now.LastFailure != nil {
		t.Errorf("what a worker said that is gone: %+v", now)
	}
}

// TestPauseIsNoted has the cause of a pause shown, since the events that wait for its end keep none.
func TestPauseIsNoted(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publish(t, db.Pool, "key", 0, 1)
	start(t, db.Pool, worker.Config{PollInterval: 50 * time.Millisecond}, worker.Subscription{Name: "s", Topics: everything},
		func(context.Context, *worker.Event[payload]) error {
			return worker.PauseFor(time.Hour, errors.New("429 from the receiver"))
		})
	eventually(t, 30*time.Second, "the cause is shown", func() bool {
		status, err := admin.GetStatus(t.Context(), db.Pool)
		if err != nil {
			t.Fatal(err)
		}
		return len(status.Subscriptions) == 1 && status.Subscriptions[0].LastFailure != nil && status.Subscriptions[0].LastFailure.Error == "pause for 1h0m0s: 429 from the receiver"
	})
}
