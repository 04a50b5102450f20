package worker_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestUnheardRetry has somebody retry a dead letter without the worker hearing of it in time. It finds the event at the head of a
// line that it knows, and must not take that for shorter than it is: what is behind goes on to wait.
func TestUnheardRetry(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	l := newLedger()
	var retried atomic.Bool // whether the dead letter is: until then, what is behind it fails
	s := worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{Delay: func(int) time.Duration { return 500 * time.Millisecond }}}
	start(t, db.Pool, worker.Config{}, s, func(_ context.Context, e *worker.Event[payload]) error {
		switch {
		case e.Payload.N == 0 && e.Attempt == 1 && len(l.all()) == 0:
			l.add(e)
			return worker.DeadLetter(errors.New("the first time"))
		case e.Payload.N > 0 && e.Payload.N < 3 && (e.Attempt == 1 || !retried.Load()):
			return errors.New("the first time")
		}
		l.add(e)
		return nil
	})
	publish(t, db.Pool, "k", 0, 3)
	eventually(t, 20*time.Second, "one is dead, and two are unfinished", func() bool { return len(rows(t, db)) == 3 && settledLag(t, db.Pool) })
	// As admin.RetryDeliveries does, but for its notification.
	if _, err := db.Pool.Exec(ctx, `update outbox.deliveries set state = 'retrying', attempt = 0, due_at = clock_timestamp() where state = 'dead'`); err != nil {
		t.Fatal(err)
	}
	retried.Store(true)
	l.waitFor(t, 3) // 2 is behind 1, and fails
	publish(t, db.Pool, "k", 3, 4)
	var got []int
	for _, e := range l.waitFor(t, 5) {
		got = append(got, e.Payload.N)
	}
	if want := []int{0, 0, 1, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("handled %v, want %v", got, want)
	}
}

// TestDiscardedUnderWay discards a delivery while its handler runs for the first time, which its row does not say, and takes long: those of
// its key wait for it all the same.
func TestDiscardedUnderWay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l, release, begun := newLedger(), make(chan struct{}), make(chan struct{}, 1)
	s := worker.Subscription{
		Name: "s", Topics: everything, ParkAfter: 2 * time.Second, // then its row would say it
		Retry: worker.Retry{Delay: func(int) time.Duration { return 10 * time.Millisecond }},
	}
	start(t, db.Pool, worker.Config{}, s, func(_ context.Context, e *worker.Event[payload]) error {
		switch {
		case e.Payload.N == 0 && e.Attempt == 1:
			return errors.New("the first time")
		case e.Payload.N == 1:
			begun <- struct{}{}
			<-release
		}
		l.add(e)
		return nil
	})
	publish(t, db.Pool, "k", 0, 2)
	<-begun
	discard(t, db, "k")
	publish(t, db.Pool, "k", 2, 3)
	eventually(t, 20*time.Second, "the event waits", func() bool { return len(rows(t, db)) == 1 || len(l.all()) > 1 })
	close(release)
	var got []int
	for _, e := range l.waitFor(t, 3) {
		got = append(got, e.Payload.N)
	}
	if want := []int{0, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("handled %v, want %v", got, want)
	}
}

func discard(t *testing.T, db *pgtest.DB, key string) {
	t.Helper()
	f := admin.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Retrying, admin.Blocked}, Key: key}
	if n, err := admin.DiscardDeliveries(t.Context(), db.Pool, f); err != nil || n != 1 {
		t.Fatal(n, err)
	}
}
