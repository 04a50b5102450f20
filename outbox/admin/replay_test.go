package admin_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// Stopped by its context, a replay says how far it got; from there on, another one takes the rest and nothing twice. What is
// published meanwhile is in neither.
func TestReplayGoesOn(t *testing.T) {
	t.Parallel()
	const n = 60
	db := pgtest.New(t)
	if _, err := engine.Subscribe(t.Context(), db.Pool, "mails", []string{">"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	publish := func() {
		t.Helper()
		if _, err := db.Pool.Exec(t.Context(), `insert into outbox.events (topic, key, payload) select 'a', 'k' || i, '1' from generate_series(1, $1) i`, n); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Pool.Exec(t.Context(), `update outbox.lanes set after_id = (select max(e.id) from outbox.events e)`); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	ctx, cancel := context.WithCancel(t.Context())
	var seen []int64
	began := time.Now()
	first, err := admin.Replay(ctx, db.Pool, "mails", admin.EventFilter{}, admin.ReplayOptions{Rate: 100, Progress: func(r admin.Replayed) {
		if seen = append(seen, r.Events); len(seen) == 2 {
			publish()
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || first != (admin.Replayed{Events: 40, Last: 40, UpTo: n}) || !slices.Equal(seen, []int64{20, 40}) {
		t.Fatalf("%+v, %v, after %v", first, err, seen)
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("20 events at 100 a second took %v", took)
	}
	second, err := admin.Replay(t.Context(), db.Pool, "mails", admin.EventFilter{MaxID: first.UpTo}, admin.ReplayOptions{After: first.Last})
	if err != nil || second.Events != n-40 {
		t.Errorf("%+v, %v", second, err)
	}
	if left, err := admin.CountDeliveries(t.Context(), db.Pool, admin.DeliveryFilter{Subscription: "mails", States: []outbox.State{outbox.Retrying}}); err != nil || left != n {
		t.Errorf("%d deliveries, %v, want %d", left, err, n)
	}
	if _, err := admin.Replay(t.Context(), db.Pool, "nobody", admin.EventFilter{}, admin.ReplayOptions{}); !errors.Is(err, outbox.ErrUnknownSubscription) {
		t.Errorf("of an unknown subscription: %v", err)
	}
	for _, o := range []admin.ReplayOptions{{Rate: -1}, {After: -1}} {
		if _, err := admin.Replay(t.Context(), db.Pool, "mails", admin.EventFilter{}, o); !errors.Is(err, admin.ErrInvalidFilter) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
