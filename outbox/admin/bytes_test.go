package admin_test

import (
	"testing"

	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// TestListsAreBounded lists 100 events of 1 MB, and as many deliveries: pages end after about 16 MB, and have all of them together.
func TestListsAreBounded(t *testing.T) {
	t.Parallel()
	const n, most = 100, admin.PageBytes + 1<<20 + 1<<16
	ctx := t.Context()
	db := pgtest.New(t)
	enginetest.Subscribe(t, db, ">")
	if _, err := db.Pool.Exec(ctx, `
		insert into outbox.events (topic, payload) select 'a', to_json(repeat('x', 1000000)) from generate_series(1, $1::integer)`, n); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Pool.Exec(ctx, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at)
		select 1, id, lane, topic, key, payload, headers, published_at, 'dead', now() from outbox.events`); err != nil {
		t.Fatal(err)
	}
	bytes := func(events []outbox.Event) (n int) {
		for _, e := range events {
			n += len(e.Payload)
		}
		return n
	}
	for _, newest := range []bool{false, true} {
		seen := map[int64]bool{}
		p := admin.Page{Newest: newest, Limit: 1000}
		for {
			page, err := admin.Events(ctx, db.Pool, admin.EventFilter{}, p)
			if err != nil {
				t.Fatal(err)
			}
			if got := bytes(page.Events); got > most {
				t.Fatalf("a page of %d bytes", got)
			}
			for _, e := range page.Events {
				seen[e.ID] = true
			}
			if p.After = page.Next; page.Done {
				break
			}
		}
		if len(seen) != n {
			t.Errorf("newest first: %t: the pages have %d events of %d", newest, len(seen), n)
		}
	}
	seen, after := map[int64]bool{}, int64(0)
	for {
		list, err := admin.ListDeliveries(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s"}, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		var events []outbox.Event
		for _, d := range list {
			events, after = append(events, d.Event), d.Event.ID
			seen[after] = true
		}
		if got := bytes(events); got > most {
			t.Fatalf("a list of %d bytes", got)
		}
	}
	if len(seen) != n {
		t.Errorf("the lists have %d deliveries of %d", len(seen), n)
	}
}
