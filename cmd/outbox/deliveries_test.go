package main

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// withDeliveries returns a database with a subscription "mails" and these deliveries: events 1 to 6 dead, 7 and 8 retrying, 9
// skipped, 10 running.
func withDeliveries(t *testing.T) (*pgtest.DB, []int64) {
	t.Helper()
	db := pgtest.New(t)
	ids := publishOrders(t, db, 10)
	subscribe(t, db, "mails", ">")
	subscribe(t, db, "audit", ">")
	serve(t, db, "mails")
	if _, err := db.Pool.Exec(t.Context(), `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, owner, attempt, due_at, created_at, errors)
		select s.id, e.id, e.lane, e.topic, e.key, e.payload, e.headers, e.published_at,
		       case when e.n <= 6 then 'dead' when e.n <= 8 then 'retrying' when e.n = 9 then 'skipped' else 'running' end,
		       case when e.n = 10 then (select w.id from outbox.workers w) end,
		       20, now(), now() - make_interval(hours => 11 - e.n::integer),
		       jsonb_build_array(jsonb_build_object('attempt', 20, 'at', now(), 'worker', 'host:1', 'error',
		           case e.n % 2 when 0 then 'connection refused' else E'no such customer\nstack of it' end))
		from (select e.*, row_number() over (order by e.id) as n from outbox.events e) e, outbox.subscriptions s
		where s.name = 'mails'`); err != nil {
		t.Fatal(err)
	}
	return db, ids
}

func states(t *testing.T, db *pgtest.DB) map[outbox.State]int {
	t.Helper()
	list, err := admin.ListDeliveries(t.Context(), db.Pool, admin.DeliveryFilter{Subscription: "mails", States: everyState}, admin.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := map[outbox.State]int{}
	for _, d := range list.Items {
		n[d.State]++
	}
	return n
}

func TestDeliveriesList(t *testing.T) {
	t.Parallel()
	db, ids := withDeliveries(t)
	for name, test := range map[string]struct {
		args []string
		want []int64
	}{
		"dead by default": {nil, ids[:6]},
		"state":           {[]string{"--state", "retrying,skipped"}, ids[6:9]},
		"all":             {[]string{"--state", "all"}, ids},
		"topic":           {[]string{"--topic", "orders.odd"}, []int64{ids[0], ids[2], ids[4]}},
		"key":             {[]string{"--key", "k2"}, ids[1:2]},
		"error":           {[]string{"--error", "refused", "--state", "all"}, []int64{ids[1], ids[3], ids[5], ids[7], ids[9]}},
		"since":           {[]string{"--since", "6h30m"}, ids[4:6]},
		"until":           {[]string{"--until", "8h30m"}, ids[:2]},
		"ids":             {[]string{"--id", strconv.FormatInt(ids[1], 10), "--id", strconv.FormatInt(ids[8], 10), "--state", "all"}, []int64{ids[1], ids[8]}},
		"page":            {[]string{"--after", strconv.FormatInt(ids[1], 10), "--limit", "2"}, ids[2:4]},
	} {
		var page deliveryPage
		decode(t, db, &page, append([]string{"deliveries", "list", "-s", "mails"}, test.args...)...)
		var got []int64
		for _, d := range page.Deliveries {
			got = append(got, d.Event.ID)
		}
		if !slices.Equal(got, test.want) || (page.Next != "") != (name == "page") {
			t.Errorf("%s: %v, next %q; want %v", name, got, page.Next, test.want)
		}
	}
	text := succeed(t, db, "deliveries", "list", "-s", "mails", "--limit", "1")
	if !hasRow(text, []string{strconv.FormatInt(ids[0], 10), "dead", "orders.odd", "k1", "20", "", "no such customer stack of it"}) || !strings.Contains(text, "go on with --after") {
		t.Errorf("text:\n%s", text)
	}
	if got := succeed(t, db, "deliveries", "list", "-s", "audit"); got != "No delivery matches.\n" {
		t.Errorf("of another subscription: %q", got)
	}
	refuse(t, db.URL, 3, "unknown subscription", "deliveries", "list", "-s", "nobody")
	refuse(t, db.URL, 2, "--subscription", "deliveries", "list")
	refuse(t, db.URL, 2, "--state", "deliveries", "list", "-s", "mails", "--state", "gone")
	refuse(t, db.URL, 2, "--limit is 1001", "deliveries", "list", "-s", "mails", "--limit", "1001")
	refuse(t, db.URL, 2, "has > before its end", "deliveries", "list", "-s", "mails", "--topic", ">.x")
}

func TestDeliveriesShow(t *testing.T) {
	t.Parallel()
	db, ids := withDeliveries(t)
	id := strconv.FormatInt(ids[0], 10)
	var row admin.Delivery
	decode(t, db, &row, "deliveries", "show", id, "-s", "mails")
	if row.Event.ID != ids[0] || row.State != outbox.Dead || len(row.Failures) != 1 {
		t.Errorf("%+v", row)
	}
	text := succeed(t, db, "deliveries", "show", id, "-s", "mails")
	for _, want := range []string{"orders.odd", "dead", "attempt 20  host:1", "    no such customer\n    stack of it\n", `"n": 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	refuse(t, db.URL, 3, "no such delivery", "deliveries", "show", id, "-s", "audit")
	refuse(t, db.URL, 3, "unknown subscription", "deliveries", "show", id, "-s", "nobody")
}

func TestDeliveriesRetry(t *testing.T) {
	t.Parallel()
	db, ids := withDeliveries(t)
	// Many want to be confirmed.
	refuse(t, db.URL, 4, `Retry 6 deliveries of "mails": nothing was changed: add --yes`, "deliveries", "retry", "-s", "mails")
	if got := states(t, db); got[outbox.Dead] != 6 {
		t.Errorf("after refusals: %v", got)
	}
	// One that is named does not.
	if got := succeed(t, db, "deliveries", "retry", "-s", "mails", "--id", strconv.FormatInt(ids[0], 10)); got != "1 delivery will be tried again.\n" {
		t.Errorf("one: %q", got)
	}
	if got := succeed(t, db, "deliveries", "retry", "-s", "mails", "--error", "refused", "--yes"); got != "3 deliveries will be tried again.\n" {
		t.Errorf("by error: %q", got)
	}
	var done struct{ Retried int }
	decode(t, db, &done, "deliveries", "retry", "-s", "mails", "--yes")
	if got := states(t, db); done.Retried != 2 || got[outbox.Retrying] != 8 || got[outbox.Dead] != 0 {
		t.Errorf("retried %d, then %v", done.Retried, got)
	}
	if got := succeed(t, db, "deliveries", "retry", "-s", "mails"); got != "No delivery matches.\n" {
		t.Errorf("without any: %q", got)
	}
	refuse(t, db.URL, 3, "unknown subscription", "deliveries", "retry", "-s", "nobody", "--yes")
	refuse(t, db.URL, 2, "--state running", "deliveries", "retry", "-s", "mails", "--state", "running", "--yes")
}

func TestDeliveriesSkip(t *testing.T) {
	t.Parallel()
	db, ids := withDeliveries(t)
	refuse(t, db.URL, 2, "--reason", "deliveries", "skip", "-s", "mails", "--yes")
	refuse(t, db.URL, 2, "--reason is empty", "deliveries", "skip", "-s", "mails", "--yes", "--reason", " ")
	refuse(t, db.URL, 4, "add --yes", "deliveries", "skip", "-s", "mails", "--reason", "r")
	got := execute(t, db.URL, "deliveries", "skip", "-s", "mails", "--reason", "customer is gone", "--error", "no such customer", "--yes")
	if got.code != 0 || got.stderr != "Skip 3 deliveries of \"mails\".\n" || got.stdout != "3 deliveries set aside.\n" {
		t.Errorf("%+v", got)
	}
	var row admin.Delivery
	decode(t, db, &row, "deliveries", "show", strconv.FormatInt(ids[0], 10), "-s", "mails")
	if n := len(row.Failures); row.State != outbox.Skipped || row.Failures[n-1].Error != "customer is gone" {
		t.Errorf("%+v", row)
	}
}

func TestDeliveriesDiscard(t *testing.T) {
	t.Parallel()
	db, ids := withDeliveries(t)
	refuse(t, db.URL, 4, "Discard 1 delivery", "deliveries", "discard", "-s", "mails", "--id", strconv.FormatInt(ids[0], 10))
	var done struct{ Discarded int }
	decode(t, db, &done, "deliveries", "discard", "-s", "mails", "--state", "all", "--yes")
	// What runs is its worker's.
	if got := states(t, db); done.Discarded != 9 || got[outbox.Running] != 1 || len(got) != 1 {
		t.Errorf("discarded %d, then %v", done.Discarded, got)
	}
}
