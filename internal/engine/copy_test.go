package engine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// withoutCopy has a subscription with deliveries of two keys and of none, which have no copy of their events.
func withoutCopy(t *testing.T) (*pgtest.DB, *engine.Member, []engine.Event) {
	t.Helper()
	db := pgtest.New(t)
	m, _ := enginetest.Member(t, db, enginetest.Subscribe(t, db, "a"))
	for _, key := range []string{"k", "k", "l", "", "k", ""} {
		enginetest.Publish(t, db.Pool, key)
	}
	w, err := m.Read(t.Context(), 1000)
	if err != nil || len(w.Events) != 6 {
		t.Fatal(w, err)
	}
	s := engine.Settlement{Window: w}
	for _, e := range w.Events {
		s.Unfinished = append(s.Unfinished, engine.Unfinished{Event: e, InLog: true})
	}
	if err := m.Settle(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if n := copies(t, db); n != 0 {
		t.Fatalf("%d of the deliveries have a copy of their event", n)
	}
	return db, m, w.Events
}

func copies(t *testing.T, db *pgtest.DB) (n int) {
	t.Helper()
	if err := db.Pool.QueryRow(t.Context(), `select count(*) from outbox.deliveries where payload is not null`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// claimAll claims what is due, and checks that it has its payload.
func claimAll(t *testing.T, m *engine.Member, want int) []engine.Delivery {
	t.Helper()
	lines, err := m.Lines(t.Context(), slices.Collect(allLanes), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	due, _, err := m.ClaimDue(t.Context(), lines, 10, engine.Suspects{Alone: true}, nil)
	if err != nil || len(due) != want {
		t.Fatalf("claimed %d, %v; want %d", len(due), err, want)
	}
	for _, d := range due {
		if d.Gone || string(d.Event.Payload) != "1" {
			t.Errorf("event %d has the payload %q", d.Event.ID, d.Event.Payload)
		}
	}
	return due
}

// TestWithoutCopy claims and lists deliveries that have no copy of their event, and decides about them: what is dead or skipped gets one.
func TestWithoutCopy(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db, m, _ := withoutCopy(t)
	page, err := admin.ListDeliveries(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Retrying, admin.Blocked}}, admin.ListOptions{Limit: 10})
	if err != nil || len(page.Items) != 6 {
		t.Fatal(page, err)
	}
	for _, d := range page.Items {
		if string(d.Event.Payload) != "1" {
			t.Errorf("event %d is listed with the payload %q", d.Event.ID, d.Event.Payload)
		}
	}
	due := claimAll(t, m, 6)
	dead, again := due[0].Event, due[1].Event
	if err := m.Settle(ctx, engine.Settlement{
		Failed:    []engine.Unfinished{{Event: dead, State: outbox.Dead, Attempt: 1}, {Event: again, Attempt: 1}},
		Delivered: []int64{due[2].Event.ID},
	}); err != nil {
		t.Fatal(err)
	}
	if n := copies(t, db); n != 1 {
		t.Errorf("%d have a copy after one is dead", n)
	}
	skip := admin.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Retrying, admin.Blocked}, IDs: []int64{again.ID}}
	if n, err := admin.SkipDeliveries(ctx, db.Pool, skip, "not wanted"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if n := copies(t, db); n != 2 {
		t.Errorf("%d have a copy after another one was skipped", n)
	}
}

// TestTrimMakesCopies deletes events from the log of which deliveries have no copy: they get it before. What somebody has locked, so that it
// gets none, keeps its event.
func TestTrimMakesCopies(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db, m, events := withoutCopy(t)
	if _, err := db.Pool.Exec(ctx, `update outbox.deliveries set published_at = now() - interval '2 hours'`); err != nil {
		t.Fatal(err)
	}
	tx, err := db.Conn(t).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	locked := events[2].ID // the only one of its key
	if _, err := tx.Exec(ctx, `select from outbox.deliveries where event_id = $1 for update`, locked); err != nil {
		t.Fatal(err)
	}
	enginetest.Age(t, db, 6)
	if left := enginetest.TrimAll(t, db, false); !slices.Equal(left, []int64{locked}) {
		t.Errorf("events %v are left, want %d", left, locked)
	}
	if n := copies(t, db); n != 5 {
		t.Errorf("%d deliveries have a copy, want 5", n)
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if left := enginetest.TrimAll(t, db, false); len(left) != 0 {
		t.Errorf("events %v are left", left)
	}
	claimAll(t, m, 6)
}
