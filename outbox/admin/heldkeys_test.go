package admin_test

import (
	"fmt"
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

// TestHeldKeys lists keys that wait for each thing that there is, page by page.
func TestHeldKeys(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, ">")
	if _, err := engine.Subscribe(ctx, db.Pool, "other", []string{">"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	_, worker := enginetest.Member(t, db, s)
	_, err := db.Pool.Exec(ctx, `
		with held as (
		    insert into outbox.held_keys (subscription_id, lane, key, from_id, held_at)
		    select $1, 7, k.key, 100, now() - interval '1 hour' from unnest(array['a', 'b', 'c', 'd', 'e', 'f']) as k (key)
		)
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, attempt, due_at, stops_key, owner, errors)
		select $1, d.id, 7, 'x', d.key, '1', '{}', now(), d.state, d.attempt, now() + d.due, d.stops, case when d.state = 'running' then $2::bigint end,
		       case when d.attempt > 0 then '[{"attempt": 1, "at": "2026-01-01T00:00:00Z", "worker": "w", "error": "no"}]'::jsonb else '[]' end
		from (values (10, 'a', 'running', 1, interval '0', false), (11, 'a', 'retrying', 0, '0', false), (12, 'a', 'retrying', 0, '0', false),
		             (20, 'b', 'retrying', 3, '1 hour', false),
		             (30, 'c', 'retrying', 0, '-1 s', false), (31, 'c', 'retrying', 0, '-1 s', false),
		             (40, 'd', 'dead', 20, '0', true), (41, 'd', 'retrying', 0, '0', false),
		             (50, 'e', 'dead', 20, '0', false)) as d (id, key, state, attempt, due, stops)`, s.ID, worker)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for o := (admin.ListOptions{Limit: 3}); ; {
		page, err := admin.ListHeldKeys(ctx, db.Pool, s.Name, o)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Items) > 3 {
			t.Errorf("a page of %d", len(page.Items))
		}
		for _, k := range page.Items {
			line := fmt.Sprint(k.Key, " ", k.WaitsFor, " ", k.Deliveries)
			if h := k.Head; h != nil {
				line += fmt.Sprint(" ", h.ID, " ", h.State, " ", h.Attempt, " ", h.Error, " ", time.Until(h.DueAt) > 0)
			}
			if got = append(got, line); k.FromID != 100 || k.Lane != 7 || time.Since(k.HeldAt) < time.Hour {
				t.Errorf("%+v", k)
			}
		}
		if o.After = page.Next; o.After == "" { // the second page is full, and the last one
			break
		}
	}
	want := []string{
		"a handler 3 10 running 1 no false",
		"b attempt 1 20 retrying 3 no true",
		"c worker 2 30 retrying 0  false",
		"d decision 2 40 dead 20 no false",
		"e refill 0", // a dead letter does not hold up its key
		"f refill 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if page, err := admin.ListHeldKeys(ctx, db.Pool, "other", admin.ListOptions{}); err != nil || len(page.Items) != 0 || page.Next != "" {
		t.Error(page, err)
	}
	status, err := admin.GetStatus(ctx, db.Pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range status.Subscriptions {
		if want := map[string]int64{s.Name: 6, "other": 0}[sub.Name]; sub.HeldKeys != want || (sub.HeldSince == nil) != (want == 0) {
			t.Errorf("%s: %d held keys since %v", sub.Name, sub.HeldKeys, sub.HeldSince)
		}
	}
}

// TestBreakerInStatus says since when the breaker is open, of the workers that live and own lanes.
func TestBreakerInStatus(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, ">")
	expect := func(when string, hours int, want ...string) {
		t.Helper()
		status, err := admin.GetStatus(ctx, db.Pool)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		if at := status.Subscriptions[0].BreakerOpenedAt; at != nil {
			got = int(status.At.Sub(*at).Round(time.Hour) / time.Hour)
		}
		if got != hours {
			t.Errorf("%s: open for %d hours, want %d", when, got, hours)
		}
		if topics := status.Subscriptions[0].BreakerTopics; !slices.Equal(topics, want) {
			t.Errorf("%s: open for topics %v, want %v", when, topics, want)
		}
	}
	open := func(worker int64, hours int) {
		t.Helper()
		if _, err := db.Pool.Exec(ctx, `update outbox.members set breaker_opened_at = now() - make_interval(hours => $2) where worker_id = $1`, worker, hours); err != nil {
			t.Fatal(err)
		}
	}
	half, first := enginetest.Member(t, db, s)
	if _, err := half.Release(ctx, 32); err != nil {
		t.Fatal(err)
	}
	_, second := enginetest.Member(t, db, s)
	_, idle := enginetest.Member(t, db, s)
	expect("closed", 0)
	open(idle, 9)
	expect("open where there are no lanes", 0)
	open(first, 2)
	expect("of one", 2)
	open(second, 3)
	expect("of two", 3)
	of := func(worker int64, topics ...string) {
		t.Helper()
		if _, err := db.Pool.Exec(ctx, `update outbox.members set breaker_topics = $2 where worker_id = $1`, worker, topics); err != nil {
			t.Fatal(err)
		}
	}
	of(first, "a", "c")
	expect("of two, one for topics", 3)
	of(second, "b", "c")
	expect("of two for topics", 3, "a", "b", "c")
	if _, err := db.Pool.Exec(ctx, `update outbox.workers set seen_at = now() - interval '1 day' where id = $1`, second); err != nil {
		t.Fatal(err)
	}
	expect("of two, one dead", 2, "a", "c")
}
