package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	read := func() admin.SubscriptionStatus {
		t.Helper()
		s, err := admin.GetStatus(ctx, db.Pool)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Subscriptions) != 1 {
			t.Fatalf("%d subscriptions", len(s.Subscriptions))
		}
		return s.Subscriptions[0]
	}
	s := enginetest.Subscribe(t, db, "a.>")
	if got := read(); got.Lag.Events != 0 || got.Lag.Seconds != 0 || got.Lanes[0] != engine.Lanes {
		t.Errorf("of an empty log: %+v", got)
	}
	for n := range 10 {
		topic := "a.x"
		if n%2 == 0 {
			topic = "b.x"
		}
		e := outbox.Event{Topic: topic, Payload: json.RawMessage(fmt.Sprint(n))}
		if _, err := outbox.Publish(ctx, db.Pool, e); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(); got.Lag.Events != 5 || got.Lag.Estimated || got.Lag.Seconds <= 0 {
		t.Errorf("of ten events, five of other topics: %+v", got.Lag)
	}

	// A cursor that an owner has moved counts, and so does what it has passed and could not see.
	slow := db.Conn(t)
	tx, err := slow.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := outbox.Publish(ctx, tx, outbox.Event{Topic: "a.late", Payload: json.RawMessage(`1`)}); err != nil {
		t.Fatal(err)
	}
	m, worker := enginetest.Member(t, db, s)
	enginetest.Publish(t, db.Pool, "")
	enginetest.Settle(t, m, 5)
	if got := read(); got.Lag.Events != 0 || got.Lanes[worker] != engine.Lanes {
		t.Errorf("of a settled log: %+v", got)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if got := read(); got.Lag.Events != 1 {
		t.Errorf("of a late event: %+v", got.Lag)
	}
	enginetest.Settle(t, m, 1)

	_, err = db.Pool.Exec(ctx, `
		insert into outbox.events (topic, payload) select case when i % 4 = 0 then 'a.x' else 'b.x' end, '1' from generate_series(1, 40000) i;
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, due_at)
		select 1, -i, 0, 'a.x', '1', '{}', now(), case when i = 1 then 'dead' else 'retrying' end, now() from generate_series(1, 3) i`)
	if err != nil {
		t.Fatal(err)
	}
	got := read()
	if !got.Lag.Estimated || got.Lag.Events < 8000 || got.Lag.Events > 12000 {
		t.Errorf("of 10,000 events among 40,000: %+v", got.Lag)
	}
	if got.Deliveries["dead"] != 1 || got.Deliveries["retrying"] != 2 || got.Deliveries[admin.Blocked] != 0 {
		t.Errorf("deliveries: %v, %d blocked", got.Deliveries, got.Deliveries[admin.Blocked])
	}

	// Of key a, one waits behind a running one; of b, two behind the first; of c, one behind a dead letter that stops it.
	_, err = db.Pool.Exec(ctx, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, stops_key, due_at)
		select 1, -10 - i, 0, 'a.x', key, '1', '{}', now(), state, stops, now()
		from unnest(array['c', 'c', 'd', 'd', 'b', 'b', 'b', 'a', 'a'],
		            array['retrying', 'dead', 'retrying', 'dead', 'retrying', 'retrying', 'retrying', 'retrying', 'running'],
		            array[false, true, false, false, false, false, false, false, false]) with ordinality as d (key, state, stops, i)`)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(); got.Deliveries[admin.Blocked] != 4 {
		t.Errorf("%d are blocked, want 4", got.Deliveries[admin.Blocked])
	}
}

// TestStatusOfLog says how far back the log reaches, and who needs that.
func TestStatusOfLog(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	last := int64(0)
	expect := func(id int64, heldBy ...string) {
		t.Helper()
		status, err := admin.GetStatus(ctx, db.Pool)
		if err != nil {
			t.Fatal(err)
		}
		if l := status.Log; l.LastID != last || l.OldestID != id || (l.OldestAt == nil) != (id == 0) || !slices.Equal(l.HeldBy, heldBy) {
			t.Errorf("got %+v, want %d, held by %v", l, id, heldBy)
		}
	}
	expect(0)
	enginetest.Publish(t, db.Pool, "k")
	enginetest.Publish(t, db.Pool, "k")
	last = 2
	expect(1)
	for _, name := range []string{"a", "b"} {
		if _, err := engine.Subscribe(ctx, db.Pool, name, []string{">"}, outbox.FromBeginning); err != nil {
			t.Fatal(err)
		}
	}
	expect(1, "a", "b")
	a, err := engine.Subscribe(ctx, db.Pool, "a", nil, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := enginetest.Member(t, db, a)
	enginetest.Settle(t, m, 2)
	expect(1, "b")
	if err := admin.DeleteSubscription(ctx, db.Pool, "b", false); err != nil {
		t.Fatal(err)
	}
	enginetest.Age(t, db, 1)
	enginetest.TrimAll(t, db, false)
	expect(2)
}

func TestStatusOfWorkers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, ">")
	conn := db.Conn(t)
	id, err := engine.Join(ctx, conn, "me", true, time.Hour, []int32{s.ID})
	if err != nil {
		t.Fatal(err)
	}
	doorbell := func(want admin.Doorbell) *admin.Status {
		t.Helper()
		status, err := admin.GetStatus(ctx, db.Pool)
		if err != nil || status.Doorbell != want {
			t.Fatalf("the doorbell is %q, %v; want %q", status.Doorbell, err, want)
		}
		return status
	}
	doorbell("unattended")
	pulse, err := engine.Beat(ctx, conn, id, true)
	if err != nil || !pulse.Alive || !pulse.Sentinel || pulse.Shares[s.ID] != (engine.Share{Fair: engine.Lanes, Free: engine.Lanes, Sharing: 1}) {
		t.Fatalf("got %+v, %v", pulse, err)
	}
	status := doorbell("polling")
	if w := status.Workers; len(w) != 1 || !w[0].Sentinel || w[0].Name != "me" || len(w[0].Subscriptions) != 1 || time.Since(w[0].SeenAt) > time.Minute {
		t.Errorf("got %+v", w)
	}
	bell, err := engine.NewBell(ctx, db.Conn(t), db.Conn(t), s)
	if err != nil {
		t.Fatal(err)
	}
	if armed, err := bell.Arm(ctx, time.Second); err != nil || !armed {
		t.Fatal(armed, err)
	}
	doorbell("armed")
	if err := bell.Disarm(context.Background()); err != nil {
		t.Fatal(err)
	}
	doorbell("polling")
}
