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

// TestDecide makes dead letters while what handlers need is away, and decides about them when it is back: they are listed and
// counted by filter, retried in the order of their key, skipped and discarded.
func TestDecide(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	var away atomic.Bool
	away.Store(true)
	l := newLedger()
	s := worker.Subscription{Name: "s", Topics: everything, StopKeyOnDead: true, Retry: worker.Retry{MaxAttempts: 1}}
	start(t, db.Pool, worker.Config{}, s, func(_ context.Context, e *worker.Event[payload]) error {
		if away.Load() {
			return errors.New("it is away")
		}
		l.add(e)
		return nil
	})
	publish(t, db.Pool, "a", 0, 5) // the first one dies, and the others wait
	publish(t, db.Pool, "b", 0, 3)
	publish(t, db.Pool, "", 0, 4)
	all := admin.DeliveryFilter{Subscription: "s"}
	count := func(f admin.DeliveryFilter, want int64) {
		t.Helper()
		if n, err := admin.CountDeliveries(ctx, db.Pool, f); err != nil || n != want {
			t.Fatalf("%+v: %d match, %v; want %d", f, n, err, want)
		}
	}
	eventually(t, 20*time.Second, "all that run are dead, and the others wait", func() bool {
		return len(rows(t, db)) == 12 && settledLag(t, db.Pool)
	})
	count(all, 6)
	count(admin.DeliveryFilter{Subscription: "s", Key: "a"}, 1)
	count(admin.DeliveryFilter{Subscription: "s", Key: "a", States: []outbox.State{outbox.Dead, admin.Blocked}}, 5)
	count(admin.DeliveryFilter{Subscription: "s", Error: "is away"}, 6)
	count(admin.DeliveryFilter{Subscription: "s", Error: "nothing like it"}, 0)
	count(admin.DeliveryFilter{Subscription: "s", Topic: "test.*"}, 6)
	count(admin.DeliveryFilter{Subscription: "s", Topic: "other.>"}, 0)
	count(admin.DeliveryFilter{Subscription: "s", Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)}, 6)
	count(admin.DeliveryFilter{Subscription: "s", Until: time.Now().Add(-time.Hour)}, 0)
	if _, err := admin.CountDeliveries(ctx, db.Pool, admin.DeliveryFilter{}); !errors.Is(err, admin.ErrInvalidFilter) {
		t.Errorf("got %v, want ErrInvalidFilter", err)
	}
	first, err := admin.ListDeliveries(ctx, db.Pool, all, admin.ListOptions{Limit: 4})
	if err != nil {
		t.Fatal(err)
	}
	page := first.Items
	if first.Next == "" || len(page) != 4 || len(page[0].Failures) != 1 || page[0].Failures[0].Error != "it is away" || !page[0].StopsKey || page[0].Event.Key != "a" {
		t.Fatalf("the first page is %+v", first)
	}
	if rest, err := admin.ListDeliveries(ctx, db.Pool, all, admin.ListOptions{After: first.Next, Limit: 4}); err != nil || len(rest.Items) != 2 || rest.Next != "" {
		t.Errorf("the second page is %+v, %v", rest, err)
	}

	away.Store(false)
	decide := func(what string, want int64, n int64, err error) {
		t.Helper()
		if err != nil || n != want {
			t.Fatalf("%s: %d, %v; want %d", what, n, err, want)
		}
	}
	n, err := admin.RetryDeliveries(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s", Key: "a"})
	decide("retry", 1, n, err)
	publish(t, db.Pool, "a", 5, 7) // behind them
	n, err = admin.SkipDeliveries(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s", Key: "b"}, "told so")
	decide("skip", 1, n, err)
	n, err = admin.DiscardDeliveries(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s", IDs: []int64{page[2].Event.ID, page[3].Event.ID}})
	decide("discard", 2, n, err)
	byKey := map[string][]int{}
	for _, e := range l.waitFor(t, 7+2) {
		byKey[e.Key] = append(byKey[e.Key], e.Payload.N)
	}
	if want := []int{0, 1, 2, 3, 4, 5, 6}; !slices.Equal(byKey["a"], want) {
		t.Errorf("key a came as %v, want %v", byKey["a"], want)
	}
	if want := []int{1, 2}; !slices.Equal(byKey["b"], want) {
		t.Errorf("key b came as %v, want %v", byKey["b"], want)
	}
	count(all, 2)
	skipped, err := admin.ListDeliveries(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Skipped}}, admin.ListOptions{})
	if err != nil || len(skipped.Items) != 1 || skipped.Items[0].Failures[len(skipped.Items[0].Failures)-1].Error != "told so" {
		t.Errorf("skipped are %+v, %v", skipped, err)
	}
}
