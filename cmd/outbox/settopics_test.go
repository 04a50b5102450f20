package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestSetTopicsNobodyKnows warns of topics that no worker knows.
func TestSetTopicsNobodyKnows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler), PollInterval: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s := worker.Subscription{Name: "mails", Topics: []string{"a", "b"}}
	if err := worker.Handle(w, s, func(context.Context, *worker.Event[json.RawMessage]) error { return nil }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "it serves", func() bool { return w.Ready() == nil })
	const warning = "No worker knows all of these topics yet"
	for topics, warned := range map[string]bool{"a": false, "c": true} {
		if got := execute(t, db.URL, "subscriptions", "set-topics", "mails", topics, "--yes"); got.code != 0 || strings.Contains(got.stderr, warning) != warned {
			t.Errorf("%s: %+v", topics, got)
		}
	}
}

func TestSubscriptionsSetTopics(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	succeed(t, db, "subscriptions", "create", "mails", "--topics", "accounts.*")
	publishOrders(t, db, 10)
	if _, err := db.Pool.Exec(t.Context(), `update outbox.lanes set after_id = (select max(e.id) from outbox.events e)`); err != nil {
		t.Fatal(err)
	}
	refuse(t, db.URL, 4, "add orders.>; remove accounts.*, of which no more events are read; back-fill 10 events", "subscriptions", "set-topics", "mails", "orders.>", "--backfill-from", "beginning")
	refuse(t, db.URL, 2, "has an empty token", "subscriptions", "set-topics", "mails", "a..b", "--yes")
	refuse(t, db.URL, 3, "unknown subscription", "subscriptions", "set-topics", "nobody", "a", "--yes")
	var change admin.TopicsChange
	decode(t, db, &change, "subscriptions", "set-topics", "mails", "orders.>", "accounts.*", "--backfill-from", "beginning", "--yes")
	if change.Backfilled != 10 || !slices.Equal(change.Topics, []string{"accounts.*", "orders.>"}) || !slices.Equal(change.Before, []string{"accounts.*"}) {
		t.Errorf("%+v", change)
	}
	if out := succeed(t, db, "subscriptions", "set-topics", "mails", "a", "--yes"); !strings.Contains(out, "mails has the topics a. Before, it had accounts.* orders.>, up to event 10.") {
		t.Errorf("it says %q", out)
	}

	// From then on, older workers are refused; and they refuse a change.
	out := succeed(t, db, "features", "list")
	if !strings.Contains(out, "topics") || strings.Contains(out, "topics   -") {
		t.Errorf("features: %s", out)
	}
	refuse(t, db.URL, 3, "unknown feature", "features", "drop", "other", "--yes")
	refuse(t, db.URL, 4, "nothing was changed", "features", "drop", "topics")
	succeed(t, db, "features", "drop", "topics", "--yes")
	if _, err := db.Pool.Exec(t.Context(), `insert into outbox.workers (name, direct, lease) values ('host:1', false, '1 h')`); err != nil {
		t.Fatal(err)
	}
	refuse(t, db.URL, 4, `cannot be used before all workers know it: upgrade or stop host:1`, "subscriptions", "set-topics", "mails", "b", "--yes")
	if report := succeed(t, db, "doctor", "--forgotten", "99h"); !strings.Contains(report, "feature   topics: not used, not known by host:1") || !strings.Contains(report, "serves programs from version") {
		t.Errorf("doctor says\n%s", report)
	}
}
