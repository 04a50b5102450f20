package worker_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// subscription returns one of the outbox's subscriptions.
func subscription(t *testing.T, db *pgtest.DB, name string) admin.Subscription {
	t.Helper()
	list, err := admin.ListSubscriptions(t.Context(), db.Pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no subscription %s", name)
	return admin.Subscription{}
}

// waitOwned waits until so many lanes of a subscription have owners.
func waitOwned(t *testing.T, db *pgtest.DB, name string, want int) {
	t.Helper()
	eventually(t, 20*time.Second, name+" has as many owned lanes as it should", func() bool { return subscription(t, db, name).Owned == want })
}

// TestPause pauses one of two subscriptions of the same two workers, with an event that is to be retried and one whose handler
// is still running: nothing new is handled until it is resumed, then everything is, and the other one notices nothing.
func TestPause(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	var (
		paused, other   = newLedger(), newLedger()
		entered, finish = make(chan struct{}), make(chan struct{})
		enter           = sync.OnceFunc(func() { close(entered) })
		failing         = errors.New("not yet")
	)
	for range 2 {
		w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
		if err != nil {
			t.Fatal(err)
		}
		s := worker.Subscription{Name: "paused", Topics: everything, ParkAfter: 50 * time.Millisecond, Retry: worker.Retry{InitialInterval: 10 * time.Millisecond}}
		err = worker.Handle(w, s, func(_ context.Context, e *worker.Event[payload]) error {
			switch {
			case e.Key == "slow" && e.Payload.N == 0:
				enter()
				<-finish
			case e.Key == "failing" && subscription(t, db, "paused").PausedAt == nil && e.Attempt < 2:
				return failing
			}
			paused.add(e)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := worker.Handle(w, worker.Subscription{Name: "other", Topics: everything}, record(other)); err != nil {
			t.Fatal(err)
		}
		runUntilStopped(t, w)
	}
	eventually(t, 20*time.Second, "both workers serve", func() bool {
		list, err := admin.ListSubscriptions(ctx, db.Pool)
		return err == nil && len(list) == 2 && len(list[0].Workers) == 2 && list[0].Owned == engine.Lanes && list[1].Owned == engine.Lanes
	})
	publish(t, db.Pool, "k", 0, 10)
	publish(t, db.Pool, "slow", 0, 2)
	paused.waitFor(t, 10)
	<-entered
	eventually(t, 20*time.Second, "the slow one is parked", func() bool { return len(rows(t, db)) > 0 })

	for range 2 { // once would do
		if err := admin.Pause(ctx, db.Pool, "paused"); err != nil {
			t.Fatal(err)
		}
	}
	waitOwned(t, db, "paused", 0)
	if s := subscription(t, db, "paused"); s.PausedAt == nil || len(s.Workers) != 2 {
		t.Errorf("paused, it is %+v", s)
	}
	close(finish) // what runs ends normally
	eventually(t, 20*time.Second, "the slow one is delivered", func() bool { return len(paused.all()) == 11 })
	publish(t, db.Pool, "k", 10, 20)
	publish(t, db.Pool, "failing", 0, 3)
	other.waitFor(t, 25)
	if n := len(paused.all()); n != 11 {
		t.Errorf("%d events were handled, want 11: it is paused", n)
	}
	if n := subscription(t, db, "other").Owned; n != engine.Lanes {
		t.Errorf("the other subscription has %d lanes", n)
	}

	for range 2 {
		if err := admin.Resume(ctx, db.Pool, "paused"); err != nil {
			t.Fatal(err)
		}
	}
	waitOwned(t, db, "paused", engine.Lanes)
	byKey := map[string][]int{}
	for _, e := range paused.waitFor(t, 25) {
		byKey[e.Key] = append(byKey[e.Key], e.Payload.N)
	}
	for key, n := range map[string]int{"k": 20, "slow": 2, "failing": 3} {
		if got := byKey[key]; len(got) != n || !slices.IsSorted(got) {
			t.Errorf("key %s came as %v, want %d in order", key, got, n)
		}
	}
	eventually(t, 20*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	if n := len(other.all()); n != 25 {
		t.Errorf("the other subscription handled %d events, want 25", n)
	}
}

// TestPausedRetry lets an event fail, pauses its subscription until the retry is due, and sees that it waits.
func TestPausedRetry(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	l := newLedger()
	s := worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{InitialInterval: 300 * time.Millisecond, Jitter: worker.NoJitter}}
	start(t, db.Pool, worker.Config{}, s, func(_ context.Context, e *worker.Event[payload]) error {
		l.add(e)
		if e.Attempt == 1 {
			return errors.New("the first attempt fails")
		}
		return nil
	})
	publish(t, db.Pool, "k", 0, 1)
	l.waitFor(t, 1)
	if err := admin.Pause(ctx, db.Pool, "s"); err != nil {
		t.Fatal(err)
	}
	waitOwned(t, db, "s", 0)
	attempts := len(l.all()) // maybe it was due before the worker noticed
	eventually(t, 20*time.Second, "the retry is due", func() bool {
		left := 0
		err := db.Pool.QueryRow(ctx, `select count(*) from outbox.deliveries d where d.due_at > clock_timestamp()`).Scan(&left)
		return err == nil && left == 0
	})
	if n := len(l.all()); n != attempts {
		t.Errorf("it was tried %d times more", n-attempts)
	}
	if err := admin.Resume(ctx, db.Pool, "s"); err != nil {
		t.Fatal(err)
	}
	l.waitFor(t, 2)
	eventually(t, 20*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
}

// TestDeleteSubscription is refused while a worker serves it, and forces a worker to create it anew.
func TestDeleteSubscription(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	l := newLedger()
	stop := start(t, db.Pool, worker.Config{Name: "somebody"}, worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{MaxAttempts: 1}}, func(_ context.Context, e *worker.Event[payload]) error {
		l.add(e)
		return errors.New("fails")
	})
	publish(t, db.Pool, "k", 0, 3)
	l.waitFor(t, 3)
	before := subscription(t, db, "s")
	var served *admin.ServedError
	err := admin.DeleteSubscription(ctx, db.Pool, "s", false)
	if !errors.As(err, &served) || !slices.Equal(served.Workers, []string{"somebody"}) {
		t.Errorf("got %v, want a ServedError that names somebody", err)
	}
	if err := admin.DeleteSubscription(ctx, db.Pool, "s", true); err != nil {
		t.Fatal(err)
	}
	l.waitFor(t, 6) // again, from the beginning
	if after := subscription(t, db, "s"); after.ID == before.ID {
		t.Error("it was not created anew")
	}
	stop()
	if err := admin.DeleteSubscription(ctx, db.Pool, "s", false); err != nil {
		t.Error(err)
	}
	var left int
	err = db.Pool.QueryRow(ctx, `select (select count(*) from outbox.lanes) + (select count(*) from outbox.progress) + (select count(*) from outbox.deliveries)`).Scan(&left)
	if err != nil || left != 0 {
		t.Errorf("%d rows are left of it, %v", left, err)
	}
	for what, err := range map[string]error{
		"delete": admin.DeleteSubscription(ctx, db.Pool, "s", false), "force": admin.DeleteSubscription(ctx, db.Pool, "s", true),
		"pause": admin.Pause(ctx, db.Pool, "s"), "resume": admin.Resume(ctx, db.Pool, "s"),
	} {
		if !errors.Is(err, outbox.ErrUnknownSubscription) {
			t.Errorf("%s: got %v, want ErrUnknownSubscription", what, err)
		}
	}
}
