package admin_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// TestSetTopics changes topics several times, and looks at what is said of events that cursors passed with others.
func TestSetTopics(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := t.Context()
	if _, err := engine.Subscribe(ctx, db.Pool, "s", []string{"a"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	// publish publishes an event of each topic, and has cursors pass them.
	publish := func() {
		t.Helper()
		if _, err := db.Pool.Exec(ctx, `
			insert into outbox.events (topic, key, payload) select t, 'k', '1' from unnest('{a,b,c}'::text[]) t;`); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Pool.Exec(ctx, `update outbox.lanes set after_id = (select max(e.id) from outbox.events e)`); err != nil {
			t.Fatal(err)
		}
	}
	set := func(o admin.TopicsOptions, topics ...string) admin.TopicsChange {
		t.Helper()
		change, err := admin.SetTopics(ctx, db.Pool, "s", topics, o)
		if err != nil {
			t.Fatal(err)
		}
		return change
	}
	publish() // 1 to 3
	change := set(admin.TopicsOptions{}, "b", "a", "b")
	if !slices.Equal(change.Before, []string{"a"}) || !slices.Equal(change.Topics, []string{"a", "b"}) || change.UpTo != 3 || change.Backfilled != 0 {
		t.Errorf("%+v", change)
	}
	publish() // 4 to 6
	if change := set(admin.TopicsOptions{}, "a", "b"); change.UpTo != 0 {
		t.Errorf("nothing was to change: %+v", change)
	}
	from := outbox.FromID(4)
	n, err := admin.CountBackfill(ctx, db.Pool, "s", []string{"a", "c"}, from)
	if err != nil || n != (admin.Estimate{Events: 1}) {
		t.Errorf("a back-fill of %+v, %v", n, err)
	}
	if change := set(admin.TopicsOptions{BackfillFrom: from}, "a", "c"); change.Backfilled != 1 {
		t.Errorf("%+v", change)
	}
	publish() // 7 to 9
	want := map[int64]admin.Fate{
		1: admin.FateDelivered, 2: admin.FateUnmatched, 3: admin.FateUnmatched,
		4: admin.FateDelivered, 5: admin.FateDelivered, 6: admin.FateRetrying,
		7: admin.FateDelivered, 8: admin.FateUnmatched, 9: admin.FateDelivered,
	}
	for id, fate := range want {
		row, err := admin.GetEvent(ctx, db.Pool, id)
		if err != nil || len(row.Fates) != 1 || row.Fates[0].Fate != fate {
			t.Errorf("event %d: %+v, %v, want %s", id, row, err, fate)
		}
	}

	for name, test := range map[string]struct {
		subscription string
		topics       []string
		o            admin.TopicsOptions
		want         error
	}{
		"unknown":       {"nobody", []string{"a"}, admin.TopicsOptions{}, outbox.ErrUnknownSubscription},
		"no topics":     {"s", nil, admin.TopicsOptions{}, outbox.ErrInvalidSubscription},
		"a bad topic":   {"s", []string{"a..b"}, admin.TopicsOptions{}, outbox.ErrInvalidSubscription},
		"from now":      {"s", []string{"a", "b"}, admin.TopicsOptions{BackfillFrom: outbox.FromNow}, outbox.ErrInvalidPosition},
		"behind it all": {"s", []string{"a", "b"}, admin.TopicsOptions{BackfillFrom: outbox.FromID(99)}, outbox.ErrInvalidPosition},
	} {
		if _, err := admin.SetTopics(ctx, db.Pool, test.subscription, test.topics, test.o); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

// TestSetTopicsWaits gives up waiting for a worker; the request stays, until it is taken back.
func TestSetTopicsWaits(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, "a")
	m, _ := enginetest.Member(t, db, s)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := admin.SetTopics(ctx, db.Pool, "s", []string{"b"}, admin.TopicsOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if row, err := admin.GetSubscription(t.Context(), db.Pool, "s"); err != nil || !slices.Equal(row.TopicsTo, []string{"b"}) || !slices.Equal(row.Topics, []string{"a"}) {
		t.Errorf("%+v, %v", row, err)
	}
	if _, err := admin.SetTopics(t.Context(), db.Pool, "s", []string{"a"}, admin.TopicsOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := m.Release(t.Context(), engine.Lanes); err != nil {
		t.Fatal(err)
	}
	if lanes, err := m.Claim(t.Context(), engine.Lanes); err != nil || len(lanes) != engine.Lanes {
		t.Errorf("claimed %d lanes after the request was taken back, %v", len(lanes), err)
	}
}

// TestSetTopicsWithOldWorkers refuses what a worker of an older version would not notice.
func TestSetTopicsWithOldWorkers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	enginetest.Subscribe(t, db, "a")
	if _, err := db.Pool.Exec(t.Context(), `insert into outbox.workers (name, direct, lease) values ('old', false, '1 h')`); err != nil {
		t.Fatal(err)
	}
	var unknown *admin.FeatureError
	if _, err := admin.SetTopics(t.Context(), db.Pool, "s", []string{"b"}, admin.TopicsOptions{}); !errors.As(err, &unknown) || unknown.Workers[0] != "old" {
		t.Errorf("got %v", err)
	}
	if row, err := admin.GetSubscription(t.Context(), db.Pool, "s"); err != nil || row.TopicsTo != nil {
		t.Errorf("%+v, %v", row, err)
	}
}
