package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// withHeldKeys has a subscription mails with keys that wait for each thing that there is.
func withHeldKeys(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	subscribe(t, db, "mails", ">")
	subscribe(t, db, "audit", ">")
	if _, err := db.Pool.Exec(t.Context(), `
		with held as (
		    insert into outbox.held_keys (subscription_id, lane, key, from_id, held_at)
		    select s.id, 7, k.key, 100, now() - interval '1 hour'
		    from outbox.subscriptions s, unnest(array['busy', 'empty', 'it''s', 'stopped']) as k (key) where s.name = 'mails'
		)
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, attempt, due_at, stops_key, errors)
		select s.id, d.id, 7, 'x', d.key, '1', '{}', now(), d.state, d.attempt, now() + d.due, d.state = 'dead',
		       case when d.attempt > 0 then '[{"attempt": 1, "at": "2026-01-01T00:00:00Z", "worker": "w", "error": "no\nstack"}]'::jsonb else '[]' end
		from outbox.subscriptions s,
		     (values (10, 'busy', 'retrying', 0, interval '0'), (11, 'busy', 'retrying', 0, '0'),
		             (20, 'it''s', 'retrying', 3, '1 hour'), (30, 'stopped', 'dead', 20, '0')) as d (id, key, state, attempt, due)
		where s.name = 'mails'`); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestKeysList(t *testing.T) {
	t.Parallel()
	db := withHeldKeys(t)
	text := succeed(t, db, "keys", "list", "-s", "mails")
	for _, row := range [][]string{
		{"busy", "", "100", "2", "10", "0", "a worker", "-"},
		{"empty", "", "100", "0", "-", "-", "the next of its events", "-"},
		{"it's", "", "100", "1", "20", "3", "", "no stack"},
		{"stopped", "", "100", "1", "30", "20", "a decision", "no stack"},
	} {
		if !hasRow(text, row) {
			t.Errorf("no row %q:\n%s", row, text)
		}
	}
	for _, advice := range []string{
		"outbox deliveries retry -s mails --state retrying --id FIRST", "outbox deliveries retry -s mails --id FIRST", "outbox subscriptions show mails",
	} {
		if !strings.Contains(text, advice) {
			t.Errorf("the text lacks %q:\n%s", advice, text)
		}
	}
	// What it says to do, does it.
	succeed(t, db, "deliveries", "retry", "-s", "mails", "--state", "retrying", "--id", "20")
	succeed(t, db, "deliveries", "discard", "-s", "mails", "--id", "30", "--yes")

	var got []string
	for after, more := "", true; more; {
		var page keyPage
		decode(t, db, &page, "keys", "list", "-s", "mails", "--limit", "3", "--after", after)
		after, more = string(page.Next), page.Next != ""
		for _, k := range page.Keys {
			got = append(got, k.Key+": "+string(k.WaitsFor))
		}
	}
	if want := []string{"busy: worker", "empty: refill", "it's: worker", "stopped: refill"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if text := succeed(t, db, "keys", "list", "-s", "mails", "--limit", "3"); !strings.Contains(text, `go on with --after 'it'\''s'`) {
		t.Errorf("a page:\n%s", text)
	}
	if got := succeed(t, db, "keys", "list", "-s", "audit"); got != "No key is held.\n" {
		t.Errorf("of another subscription: %q", got)
	}
	refuse(t, db.URL, 3, "unknown subscription", "keys", "list", "-s", "nobody")
	refuse(t, db.URL, 2, "--limit is 0", "keys", "list", "-s", "mails", "--limit", "0")

	if text := succeed(t, db, "status"); !strings.Contains(text, "mails holds 4 keys, the first for 1h0m") {
		t.Errorf("status:\n%s", text)
	}
	if text := succeed(t, db, "subscriptions", "show", "mails"); !strings.Contains(text, "Held keys") {
		t.Errorf("show:\n%s", text)
	}
}

func TestSubscriptionsProbe(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	subscribe(t, db, "mails", ">")
	serve(t, db, "mails")
	if _, err := db.Pool.Exec(t.Context(), `
		update outbox.members set breaker_opened_at = now() - interval '1 hour';
		update outbox.lanes set owner = (select worker_id from outbox.members)`); err != nil {
		t.Fatal(err)
	}
	if text := succeed(t, db, "status"); !strings.Contains(text, "mails has an open breaker for 1h0m") || !strings.Contains(text, "outbox subscriptions probe mails") {
		t.Errorf("status:\n%s", text)
	}
	var view subscriptionView
	decode(t, db, &view, "subscriptions", "show", "mails")
	if text := succeed(t, db, "subscriptions", "show", "mails"); view.BreakerOpenedAt == nil || !strings.Contains(text, "open since ") {
		t.Errorf("show: %+v\n%s", view, text)
	}
	if _, err := db.Pool.Exec(t.Context(), `update outbox.members set breaker_topics = '{mail.sent,mail.%d,a,b}'`); err != nil {
		t.Fatal(err)
	}
	if text := succeed(t, db, "status"); !strings.Contains(text, "nearly every attempt at events of a, b, mail.%d and 1 other topic fails") {
		t.Errorf("status:\n%s", text)
	}
	if text := succeed(t, db, "subscriptions", "show", "mails"); !strings.Contains(text, " for a, b, mail.%d and 1 other topic") {
		t.Errorf("show:\n%s", text)
	}
	if got := succeed(t, db, "subscriptions", "probe", "mails"); got != "mails is probed, if its breaker is open.\n" {
		t.Errorf("probe: %q", got)
	}
	var row admin.Subscription
	decode(t, db, &row, "subscriptions", "probe", "mails")
	var asked bool
	if err := db.Pool.QueryRow(t.Context(), `select probe_at is not null from outbox.subscriptions`).Scan(&asked); err != nil || !asked || row.Name != "mails" {
		t.Errorf("asked: %v, %v; %+v", asked, err, row)
	}
}
