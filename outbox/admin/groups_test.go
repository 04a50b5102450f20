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

func TestStatusUpTo(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := watched(t)
	const limit = 10_001
	read := func() admin.SubscriptionStatus {
		t.Helper()
		s, err := admin.GetStatusUpTo(ctx, db.Pool, limit)
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
	if got.Deliveries["dead"] != limit || got.Deliveries["retrying"] != 2001 || got.Deliveries[admin.Blocked] != 2003 || got.Deliveries["running"] != 2 || got.Deliveries["skipped"] != 1 {
		t.Errorf("of many that are dead: %v, %d blocked", got.Deliveries, got.Deliveries[admin.Blocked])
	}
	fill(40_000, 79_999, "retrying", false)
	if got := read(); got.Deliveries["retrying"]+got.Deliveries[admin.Blocked] < limit || got.Deliveries[admin.Blocked] < limit-10 {
		t.Errorf("of many that are retrying: %v, %d blocked", got.Deliveries, got.Deliveries[admin.Blocked])
	}
}

func TestListDeliveries(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := watched(t)
	list := func(f admin.DeliveryFilter, o admin.ListOptions) (ids []int64, next admin.Cursor) {
		t.Helper()
		f.Subscription = "s"
		page, err := admin.ListDeliveries(ctx, db.Pool, f, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Items {
			ids = append(ids, d.Event.ID)
		}
		return ids, page.Next
	}
	for name, test := range map[string]struct {
		filter admin.DeliveryFilter
		o      admin.ListOptions
		want   []int64
		next   admin.Cursor
	}{
		"dead":       {admin.DeliveryFilter{}, admin.ListOptions{}, []int64{1, 4, 9}, ""},
		"a page":     {admin.DeliveryFilter{}, admin.ListOptions{Limit: 2}, []int64{1, 4}, "4"},
		"later":      {admin.DeliveryFilter{}, admin.ListOptions{After: "4"}, []int64{9}, ""},
		"full, last": {admin.DeliveryFilter{}, admin.ListOptions{Limit: 3}, []int64{1, 4, 9}, ""},
		"by id":      {admin.DeliveryFilter{IDs: []int64{2, 4, 9, 77}}, admin.ListOptions{}, []int64{4, 9}, ""},
		"by error":   {admin.DeliveryFilter{Error: "refused"}, admin.ListOptions{}, []int64{1, 9}, ""},
		"by key":     {admin.DeliveryFilter{Key: "b"}, admin.ListOptions{}, []int64{4}, ""},
		"by topic":   {admin.DeliveryFilter{Topic: "b.>"}, admin.ListOptions{}, nil, ""},
		"retrying":   {admin.DeliveryFilter{States: []outbox.State{outbox.Retrying}}, admin.ListOptions{}, []int64{7}, ""},
		"blocked":    {admin.DeliveryFilter{States: []outbox.State{admin.Blocked}}, admin.ListOptions{}, []int64{2, 3, 10}, ""},
		"running":    {admin.DeliveryFilter{States: []outbox.State{outbox.Running}}, admin.ListOptions{}, []int64{5, 6}, ""},
		"skipped":    {admin.DeliveryFilter{States: []outbox.State{outbox.Skipped}}, admin.ListOptions{}, []int64{8}, ""},
		"two states": {admin.DeliveryFilter{States: []outbox.State{outbox.Skipped, outbox.Dead}}, admin.ListOptions{}, []int64{1, 4, 8, 9}, ""},
	} {
		if ids, next := list(test.filter, test.o); !slices.Equal(ids, test.want) || next != test.next {
			t.Errorf("%s: %v, next %q; want %v and %q", name, ids, next, test.want, test.next)
		}
	}
	for _, o := range []admin.ListOptions{{After: "x"}, {After: "-1"}, {Limit: -1}, {Limit: 1001}} {
		if _, err := admin.ListDeliveries(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s"}, o); !errors.Is(err, admin.ErrInvalidFilter) {
			t.Errorf("%+v: %v", o, err)
		}
	}

	// Where there are more than are looked at, it goes on from Next.
	fillDead(t, db, 20_100)
	rare := admin.DeliveryFilter{Error: "rare"}
	ids, next := list(rare, admin.ListOptions{Limit: 2})
	if len(ids) != 0 || next == "" {
		t.Fatalf("%v, next %q", ids, next)
	}
	if ids, next := list(rare, admin.ListOptions{After: next, Limit: 2}); next != "" || !slices.Equal(ids, []int64{20_200}) {
		t.Errorf("%v, next %q", ids, next)
	}
	for most, want := range map[int64]int64{10: 10, 50000: 20103} {
		if n, err := admin.CountDeliveriesUpTo(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s"}, most); err != nil || n != want {
			t.Errorf("up to %d: %d, %v", most, n, err)
		}
	}
}

// fillDead adds dead letters from event 101 on, all with one error, but the last.
func fillDead(t *testing.T, db *pgtest.DB, n int) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, due_at, errors)
		select 1, 100 + n, 7, 'a.x', '{}', '{}', now(), 'dead', now(), jsonb_build_array(jsonb_build_object('error', case when n = $1::integer then 'rare' else 'usual' end))
		from generate_series(1, $1::integer) n`, n); err != nil {
		t.Fatal(err)
	}
}

// TestGroupDeliveries adds up what one transaction after the other finds, or stops where it shall.
func TestGroupDeliveries(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := watched(t)
	fillDead(t, db, 45_000)
	dead := admin.DeliveryFilter{Subscription: "s"}
	refused, usual := admin.DeliveryGroup{Error: "refused", Events: 2, First: 1, Last: 9}, admin.DeliveryGroup{Error: "usual", Events: 44_999, First: 101, Last: 45_099}
	rare, unknown := admin.DeliveryGroup{Error: "rare", Events: 1, First: 45_100, Last: 45_100}, admin.DeliveryGroup{Error: "unknown", Events: 1, First: 4, Last: 4}
	few := usual
	few.Events, few.Last = 20_999, 21_099
	for limit, want := range map[int64]admin.DeliveryGroups{
		0:      {Groups: []admin.DeliveryGroup{usual, refused, rare, unknown}, Deliveries: 45_003},
		50_000: {Groups: []admin.DeliveryGroup{usual, refused, rare, unknown}, Deliveries: 45_003},
		21_002: {Groups: []admin.DeliveryGroup{few, refused, unknown}, Deliveries: 21_002, Partial: true},
		2:      {Groups: []admin.DeliveryGroup{{Error: "refused", Events: 1, First: 1, Last: 1}, unknown}, Deliveries: 2, Partial: true},
	} {
		group := func() (*admin.DeliveryGroups, error) { return admin.GroupDeliveriesUpTo(ctx, db.Pool, dead, limit) }
		if limit == 0 {
			group = func() (*admin.DeliveryGroups, error) { return admin.GroupDeliveries(ctx, db.Pool, dead) }
		}
		got, err := group()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("up to %d: %s", limit, diff)
		}
	}
	if _, err := admin.GroupDeliveries(ctx, db.Pool, admin.DeliveryFilter{}); !errors.Is(err, admin.ErrInvalidFilter) {
		t.Errorf("without a subscription: %v", err)
	}
	if _, err := admin.GroupDeliveriesUpTo(ctx, db.Pool, dead, 0); !errors.Is(err, admin.ErrInvalidFilter) {
		t.Errorf("up to 0: %v", err)
	}
}

func TestBlockedKeys(t *testing.T) {
	t.Parallel()
	db := watched(t)
	list, err := admin.ListBlockedKeys(t.Context(), db.Pool, "s", 10)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	if a := list[0]; a.Key != "a" || a.Head.ID != 1 || a.Head.State != outbox.Dead || a.Waiting != 2 || a.Head.Attempt != 3 || a.Head.Error != "refused\nand more" {
		t.Errorf("the longest is %+v", a)
	}
	if c := list[1]; c.Key != "c" || c.Head.ID != 5 || c.Head.State != outbox.Running || c.Waiting != 1 {
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
	if want := (admin.Lane{Number: 5, OwnerID: worker, Owner: t.Name(), AfterID: 64, Behind: 1}); lanes[5] != want {
		t.Errorf("%+v, want %+v", lanes[5], want)
	}
	if evicted, err := engine.Evict(ctx, db.Conn(t), worker, "test"); err != nil || !evicted {
		t.Fatal(evicted, err)
	}
	if left, err := admin.GetMark(ctx, db.Pool); err != nil || left.Handled["s"] != 64 {
		t.Errorf("after the eviction: %+v, %v", left, err)
	}
}
