package admin_test

import (
	"context"
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
	for newest, list := range map[bool]func(context.Context, outbox.Database, admin.EventFilter, admin.ListOptions) (*admin.Page[outbox.Event], error){
		false: admin.ListEvents, true: admin.ListNewestEvents,
	} {
		seen := map[int64]bool{}
		o := admin.ListOptions{Limit: 1000}
		for {
			page, err := list(ctx, db.Pool, admin.EventFilter{}, o)
			if err != nil {
				t.Fatal(err)
			}
			if got := bytes(page.Items); got > most {
				t.Fatalf("a page of %d bytes", got)
			}
			for _, e := range page.Items {
				seen[e.ID] = true
			}
			if o.After = page.Next; page.Next == "" {
				break
			}
		}
		if len(seen) != n {
			t.Errorf("newest first: %t: the pages have %d events of %d", newest, len(seen), n)
		}
	}
	seen, o := map[int64]bool{}, admin.ListOptions{Limit: 1000}
	for {
		page, err := admin.ListDeliveries(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s"}, o)
		if err != nil {
			t.Fatal(err)
		}
		var events []outbox.Event
		for _, d := range page.Items {
			events = append(events, d.Event)
			seen[d.Event.ID] = true
		}
		if got := bytes(events); got > most {
			t.Fatalf("a list of %d bytes", got)
		}
		if o.After = page.Next; page.Next == "" {
			break
		}
	}
	if len(seen) != n {
		t.Errorf("the lists have %d deliveries of %d", len(seen), n)
	}
}
