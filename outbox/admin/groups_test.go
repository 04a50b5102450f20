package admin_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// watched is an outbox with deliveries in every state: those of s by event id, and one of another subscription.
func watched(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	for _, name := range []string{"s", "other"} {
		if _, err := engine.Subscribe(t.Context(), db.Pool, name, []string{">"}, outbox.FromBeginning); err != nil {
			t.Fatal(err)
		}
	}
	_, err := db.Pool.Exec(t.Context(), `
		insert into outbox.workers (name, direct, lease) values ('w', false, '1 h');
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, attempt, due_at, owner, stops_key, errors)
		select case when id = 99 then 2 else 1 end, id, 7, 'a.x', key, '{}', '{}', now(), state, 3, now(), case when state = 'running' then 1 end, stops,
		       case when error = '' then '[]' else jsonb_build_array(jsonb_build_object('attempt', 3, 'at', now(), 'worker', 'w', 'error', error || E'\nand more')) end
		from (values (1, 'a', 'dead', true, 'refused'), (2, 'a', 'retrying', false, ''), (3, 'a', 'retrying', false, ''), (4, 'b', 'dead', false, 'unknown'),
		             (5, 'c', 'running', false, ''), (6, null, 'running', false, ''), (7, null, 'retrying', false, 'refused'), (8, 'd', 'skipped', false, 'told so'),
		             (9, null, 'dead', false, 'refused'), (10, 'c', 'retrying', false, ''), (99, 'a', 'dead', false, 'refused')) as v (id, key, state, stops, error)`)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestGlance(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := watched(t)
	read := func() admin.SubscriptionStatus {
		t.Helper()
		s, err := admin.GetBoundedStatus(ctx, db.Pool)
		if err != nil || len(s.Subscriptions) != 2 {
			t.Fatalf("%+v, %v", s, err)
		}
		return s.Subscriptions[1]
	}
	exact, err := admin.GetStatus(ctx, db.Pool)
	if err != nil {
		t.Fatal(err)
	}
	if o := exact.Subscriptions[1].Oldest; o != nil {
		o.State = read().Oldest.State // they were published at the same time
	}
	if diff := cmp.Diff(exact.Subscriptions[1], read()); diff != "" || read().Deliveries[admin.Blocked] != 3 {
		t.Errorf("it differs from the exact status: %s", diff)
	}
	fill := func(from, to int, state string, stops bool) {
		t.Helper()
		if _, err := db.Pool.Exec(ctx, `
			insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at, stops_key)
			select 1, n, 7, 'a.x', case when n % 2 = 0 then 'k' || n % 10 end, '{}', '{}', now(), $3, now(), $4
			from generate_series($1::integer, $2::integer) n`, from, to, state, stops); err != nil {
			t.Fatal(err)
		}
	}
	// Dead ones that stop their keys are in the way of those that are retrying, and do not hide them.
	fill(1_000, 26_999, "dead", true)
	fill(30_000, 33_999, "retrying", false)
	got := read()
	if got.Deliveries["dead"] != admin.BoundedCount+1 || got.Deliveries["retrying"] != 2001 || got.Deliveries[admin.Blocked] != 2003 || got.Deliveries["running"] != 2 || got.Deliveries["skipped"] != 1 {
		t.Errorf("of many that are dead: %v, %d blocked", got.Deliveries, got.Deliveries[admin.Blocked])
	}
	fill(40_000, 79_999, "retrying", false)
	if got := read(); got.Deliveries["retrying"]+got.Deliveries[admin.Blocked] <= admin.BoundedCount || got.Deliveries[admin.Blocked] <= admin.BoundedCount-10 {
		t.Errorf("of many that are retrying: %v, %d blocked", got.Deliveries, got.Deliveries[admin.Blocked])
	}
}

func TestListDeliveryGroups(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := watched(t)
	for name, test := range map[string]struct {
		filter admin.DeliveryFilter
		after  int64
		want   []int64
	}{
		"dead":       {admin.DeliveryFilter{}, 0, []int64{1, 4, 9}},
		"later":      {admin.DeliveryFilter{}, 4, []int64{9}},
		"by error":   {admin.DeliveryFilter{Error: "refused"}, 0, []int64{1, 9}},
		"by key":     {admin.DeliveryFilter{Key: "b"}, 0, []int64{4}},
		"by topic":   {admin.DeliveryFilter{Topic: "b.>"}, 0, []int64{}},
		"retrying":   {admin.DeliveryFilter{States: []outbox.State{outbox.Retrying}}, 0, []int64{7}},
		"blocked":    {admin.DeliveryFilter{States: []outbox.State{admin.Blocked}}, 0, []int64{2, 3, 10}},
		"running":    {admin.DeliveryFilter{States: []outbox.State{outbox.Running}}, 0, []int64{5, 6}},
		"skipped":    {admin.DeliveryFilter{States: []outbox.State{outbox.Skipped}}, 0, []int64{8}},
		"two states": {admin.DeliveryFilter{States: []outbox.State{outbox.Skipped, outbox.Dead}}, 0, []int64{1, 4, 8, 9}},
	} {
		test.filter.Subscription = "s"
		look, err := admin.ListDeliveryGroups(ctx, db.Pool, test.filter, test.after, 10)
		if err != nil || !slices.Equal(look.IDs, test.want) || look.Count != int64(len(test.want)) || look.Next != 0 {
			t.Errorf("%s: %+v, %v; want %v", name, look, err, test.want)
		}
	}
	look, err := admin.ListDeliveryGroups(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s"}, 0, 2)
	want := []admin.DeliveryGroup{{Error: "refused", Events: 2, First: 1, Last: 9}, {Error: "unknown", Events: 1, First: 4, Last: 4}}
	if diff := cmp.Diff(want, look.Groups); err != nil || diff != "" || len(look.IDs) != 2 || look.Count != 3 || look.Next != 0 {
		t.Errorf("%+v, %v\n%s", look, err, diff)
	}
	if _, err := admin.ListDeliveryGroups(ctx, db.Pool, admin.DeliveryFilter{}, 0, 2); !errors.Is(err, admin.ErrInvalidFilter) {
		t.Errorf("without a subscription: %v", err)
	}

	// Where there are more than are looked at, it goes on from Next.
	if _, err := db.Pool.Exec(ctx, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, due_at, errors)
		select 1, 100 + n, 7, 'a.x', '{}', '{}', now(), 'dead', now(), jsonb_build_array(jsonb_build_object('error', case when n = 20100 then 'rare' else 'usual' end))
		from generate_series(1, 20100) n`); err != nil {
		t.Fatal(err)
	}
	rare := admin.DeliveryFilter{Subscription: "s", Error: "rare"}
	first, err := admin.ListDeliveryGroups(ctx, db.Pool, rare, 0, 2)
	if err != nil || first.Next == 0 || len(first.IDs) != 0 || first.Count != 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	if rest, err := admin.ListDeliveryGroups(ctx, db.Pool, rare, first.Next, 2); err != nil || rest.Next != 0 || !slices.Equal(rest.IDs, []int64{20200}) {
		t.Errorf("%+v, %v", rest, err)
	}
	for most, want := range map[int64]int64{10: 10, 50000: 20103} {
		if n, err := admin.CountDeliveriesUpTo(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s"}, most); err != nil || n != want {
			t.Errorf("up to %d: %d, %v", most, n, err)
		}
	}
}

func TestBlockedKeys(t *testing.T) {
	t.Parallel()
	db := watched(t)
	list, err := admin.ListBlockedKeys(t.Context(), db.Pool, "s", 10)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	if a := list[0]; a.Key != "a" || a.Head != 1 || a.State != outbox.Dead || a.Waiting != 2 || a.Attempt != 3 || a.Error != "refused\nand more" {
		t.Errorf("the longest is %+v", a)
	}
	if c := list[1]; c.Key != "c" || c.Head != 5 || c.State != outbox.Running || c.Waiting != 1 {
		t.Errorf("then comes %+v", c)
	}
	if one, err := admin.ListBlockedKeys(t.Context(), db.Pool, "s", 1); err != nil || len(one) != 1 {
		t.Errorf("%+v, %v", one, err)
	}
}

func TestMarks(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	empty, err := admin.GetMark(ctx, db.Pool)
	if err != nil || empty.Last != 0 || len(empty.Handled) != 0 || time.Since(empty.At).Abs() > time.Hour {
		t.Errorf("of nothing: %+v, %v", empty, err)
	}
	s, err := engine.Subscribe(ctx, db.Pool, "s", []string{">"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	for range 64 {
		enginetest.Publish(t, db.Pool, "")
	}
	before, err := admin.GetMark(ctx, db.Pool)
	if err != nil || before.Last != 64 || before.Handled["s"] != 0 {
		t.Errorf("of what is to be read: %+v, %v", before, err)
	}
	m, worker := enginetest.Member(t, db, s)
	enginetest.Settle(t, m, 64)
	after, err := admin.GetMark(ctx, db.Pool)
	if err != nil || after.Last != 64 || after.Handled["s"] != 64 || !after.At.After(before.At) {
		t.Errorf("of what was read: %+v, %v", after, err)
	}
	enginetest.Publish(t, db.Pool, "")
	lanes, err := admin.ListLanes(ctx, db.Pool, "s")
	if err != nil || len(lanes) != engine.Lanes {
		t.Fatalf("%d lanes, %v", len(lanes), err)
	}
	if want := (admin.LaneRow{Lane: 5, OwnerID: worker, Owner: t.Name(), AfterID: 64, Behind: 1}); lanes[5] != want {
		t.Errorf("%+v, want %+v", lanes[5], want)
	}
	if evicted, err := engine.Evict(ctx, db.Conn(t), worker, "test"); err != nil || !evicted {
		t.Fatal(evicted, err)
	}
	if left, err := admin.GetMark(ctx, db.Pool); err != nil || left.Handled["s"] != 64 {
		t.Errorf("after the eviction: %+v, %v", left, err)
	}
}
