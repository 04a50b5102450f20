package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// serve has a worker, as far as the database can tell, serve a subscription.
func serve(t *testing.T, db *pgtest.DB, subscription string) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), `
		with w as (insert into outbox.workers (name, direct, lease) values ('host:1', false, '1 h') returning id)
		insert into outbox.members (worker_id, subscription_id, topics)
		select w.id, s.id, s.topics from w, outbox.subscriptions s where s.name = $1`, subscription); err != nil {
		t.Fatal(err)
	}
}

func TestSubscriptionsCreate(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ids := publishOrders(t, db, 10)
	for name, test := range map[string]struct {
		from []string
		lag  int64
	}{
		"default":   {nil, 10},
		"beginning": {[]string{"--from", "beginning"}, 10},
		"now":       {[]string{"--from", "now"}, 0},
		"id":        {[]string{"--from", strconv.FormatInt(ids[6], 10)}, 4},
		"time":      {[]string{"--from", "150m"}, 2},
	} {
		succeed(t, db, append([]string{"subscriptions", "create", name, "--topics", "orders.>"}, test.from...)...)
		var view subscriptionView
		decode(t, db, &view, "subscriptions", "show", name)
		if view.Name != name || view.Lag.Events != test.lag || !slices.Equal(view.Topics, []string{"orders.>"}) || view.Lanes[0] != engine.Lanes {
			t.Errorf("%s: %+v, want a lag of %d", name, view, test.lag)
		}
	}
	var made struct{ Created bool }
	decode(t, db, &made, "subscriptions", "create", "now", "--topics", "orders.>")
	if made.Created {
		t.Error("what exists was created")
	}
	decode(t, db, &made, "subscriptions", "create", "new", "--topics", "a", "--topics", "b.*")
	if !made.Created {
		t.Error("what is new was not created")
	}
	refuse(t, db.URL, 4, `has the topics orders.>`, "subscriptions", "create", "now", "--topics", "other")
	refuse(t, db.URL, 2, "--topics", "subscriptions", "create", "x")
	refuse(t, db.URL, 2, "--topics names no topic", "subscriptions", "create", "now", "--topics", "")
	refuse(t, db.URL, 2, "has an empty token", "subscriptions", "create", "x", "--topics", "a..b")
	refuse(t, db.URL, 2, "beyond the end of the log", "subscriptions", "create", "x", "--topics", "a", "--from", "99")
	refuse(t, db.URL, 2, "is not a position: write beginning, now, the id of an event", "subscriptions", "create", "x", "--topics", "a", "--from=-1h")
}

func TestSubscriptionsListShowPauseResume(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if got := succeed(t, db, "subscriptions", "list"); !strings.HasPrefix(got, "There is no subscription yet") {
		t.Errorf("of an empty outbox: %q", got)
	}
	subscribe(t, db, "mails", "orders.>", "accounts.*")
	subscribe(t, db, "audit", ">")
	serve(t, db, "mails")

	var list struct{ Subscriptions []admin.Subscription }
	decode(t, db, &list, "subscriptions", "list")
	if len(list.Subscriptions) != 2 || list.Subscriptions[1].Name != "mails" || !slices.Equal(list.Subscriptions[1].Workers, []string{"host:1"}) {
		t.Errorf("%+v", list)
	}
	if got := succeed(t, db, "subscriptions", "pause", "mails"); got != "mails is paused.\n" {
		t.Errorf("pause: %q", got)
	}
	text := succeed(t, db, "subscriptions", "list")
	if !hasRow(text, []string{"mails", "accounts.* orders.>", "", "paused", "host:1", "0 of 64"}) || !hasRow(text, []string{"audit", ">", "", "not served", "-", "0 of 64"}) {
		t.Errorf("list:\n%s", text)
	}
	if text := succeed(t, db, "subscriptions", "show", "mails"); !strings.Contains(text, "paused") || !strings.Contains(text, "free: 64") {
		t.Errorf("show:\n%s", text)
	}
	var row admin.Subscription
	decode(t, db, &row, "subscriptions", "resume", "mails")
	if row.PausedAt != nil {
		t.Errorf("resume: %+v", row)
	}
	decode(t, db, &row, "subscriptions", "pause", "mails")
	if row.PausedAt == nil {
		t.Errorf("pause: %+v", row)
	}
	for _, verb := range []string{"show", "pause", "resume", "probe"} {
		refuse(t, db.URL, 3, "unknown subscription", "subscriptions", verb, "nobody")
	}
}

// What waits behind a failed event of its key is told apart, as it is in the status.
func TestSubscriptionsShowBlocked(t *testing.T) {
	t.Parallel()
	db, ids := withDeliveries(t)
	if _, err := db.Pool.Exec(t.Context(), `
		update outbox.deliveries d set key = 'k', attempt = case d.event_id when $1 then 1 else 0 end where d.event_id in ($1, $2)`, ids[6], ids[7]); err != nil {
		t.Fatal(err)
	}
	status, err := admin.GetStatus(t.Context(), db.Pool)
	if err != nil {
		t.Fatal(err)
	}
	var view subscriptionView
	decode(t, db, &view, "subscriptions", "show", "mails")
	if want := status.Subscriptions[1]; want.Deliveries[admin.Blocked] == 0 || !maps.Equal(view.Deliveries, want.Deliveries) {
		t.Errorf("%+v, want as in %+v", view, want)
	}
	if text := succeed(t, db, "subscriptions", "show", "mails"); !strings.Contains(text, "blocked: 1, dead: 6, retrying: 1") {
		t.Errorf("show:\n%s", text)
	}
}

func TestSubscriptionsDelete(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, name := range []string{"served", "sure"} {
		subscribe(t, db, name, ">")
	}
	serve(t, db, "served")
	left := func() (names []string) {
		list, err := admin.ListSubscriptions(t.Context(), db.Pool)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			names = append(names, s.Name)
		}
		return names
	}
	refuse(t, db.URL, 3, "unknown subscription", "subscriptions", "delete", "nobody", "--yes")
	refuse(t, db.URL, 4, "add --yes to do it", "subscriptions", "delete", "sure")
	refuse(t, db.URL, 4, "is served by host:1", "subscriptions", "delete", "served", "--yes")
	if got := left(); !slices.Equal(got, []string{"served", "sure"}) {
		t.Errorf("after refusals: %v", got)
	}
	var deleted struct{ Deleted bool }
	decode(t, db, &deleted, "subscriptions", "delete", "sure", "--yes")
	succeed(t, db, "subscriptions", "delete", "served", "--force", "--yes")
	if got := left(); !deleted.Deleted || len(got) != 0 {
		t.Errorf("in the end: %v", got)
	}
}
