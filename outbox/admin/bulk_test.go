package admin_test

import (
	"context"
	"errors"
	"testing"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// Decisions about more than fit into one chunk reach all that match, and nothing else: not what does not match, nor what comes
// while they go on, nor the same one twice.
func TestDecideInChunks(t *testing.T) {
	t.Parallel()
	const n = 12_000
	ctx := t.Context()
	db := pgtest.New(t)
	if _, err := engine.Subscribe(ctx, db.Pool, "mails", []string{">"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	bury := func(from, to int) {
		t.Helper()
		if _, err := db.Pool.Exec(ctx, `
			insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, attempt, due_at)
			select s.id, n, n % 64, case n % 4 when 0 then 'other' else 'orders' end, '1', '{}', now(), 'dead', 20, now()
			from outbox.subscriptions s, generate_series($1::bigint, $2::bigint) n`, from, to); err != nil {
			t.Fatal(err)
		}
	}
	bury(1, n)
	orders := admin.DeliveryFilter{Subscription: "mails", Topic: "orders"}
	count := func(f admin.DeliveryFilter) int64 {
		t.Helper()
		got, err := admin.CountDeliveries(ctx, db.Pool, f)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}

	// Stopped after its first chunk, it has done that, and says so.
	stopping, cancel := context.WithCancel(ctx)
	done, err := admin.DecideInChunks(stopping, db.Pool, orders, func(ctx context.Context, db outbox.DB, f admin.DeliveryFilter) (int64, error) {
		cancel()
		return admin.SkipDeliveries(ctx, db, f, "enough")
	})
	if !errors.Is(err, context.Canceled) || done == 0 || done >= n*3/4 || count(orders) != n*3/4-done {
		t.Fatalf("stopped after %d, %v: %d are left", done, err, count(orders))
	}
	// The rest.
	chunks := 0
	rest, err := admin.DecideInChunks(ctx, db.Pool, orders, func(ctx context.Context, db outbox.DB, f admin.DeliveryFilter) (int64, error) {
		chunks++
		if chunks == 1 {
			bury(n+1, n+100)
		}
		return admin.DiscardDeliveries(ctx, db, f)
	})
	if err != nil || rest != n*3/4-done || count(orders) != 75 {
		t.Errorf("discarded %d, %v: %d are left", rest, err, count(orders))
	}
	if got := count(admin.DeliveryFilter{Subscription: "mails", Topic: "other"}); got != (n+100)/4 {
		t.Errorf("%d of another topic are left, want %d", got, (n+100)/4)
	}
	// What is retried still matches where retrying ones are meant.
	all := admin.DeliveryFilter{Subscription: "mails", States: []outbox.State{outbox.Dead, outbox.Retrying, outbox.Skipped}}
	if got, err := admin.DecideInChunks(ctx, db.Pool, all, admin.RetryDeliveries); err != nil || got != done+75+(n+100)/4 {
		t.Errorf("retried %d, %v, want %d", got, err, done+75+(n+100)/4)
	}
	if got, err := admin.DecideInChunks(ctx, db.Pool, orders, admin.RetryDeliveries); err != nil || got != 0 {
		t.Errorf("retried %d that are not dead, %v", got, err)
	}
	if _, err := admin.DecideInChunks(ctx, db.Pool, admin.DeliveryFilter{Subscription: "nobody"}, admin.RetryDeliveries); !errors.Is(err, outbox.ErrUnknownSubscription) {
		t.Errorf("of an unknown subscription: %v", err)
	}
}
