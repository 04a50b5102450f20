package admin_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/uid"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// TestUIDs reads an event in every way, also once the log does not have it any more: it has the UID that Publish returned.
func TestUIDs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	if _, err := engine.Subscribe(ctx, db.Pool, "s", []string{">"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	stored, err := outbox.Publish(ctx, db.Pool, outbox.Event{Topic: "a", Payload: json.RawMessage(`1`)})
	if err != nil {
		t.Fatal(err)
	}
	e := stored[0]
	if _, err := db.Pool.Exec(ctx, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, due_at)
		select s.id, e.id, e.lane, e.topic, e.payload, e.headers, e.published_at, 'dead', now() from outbox.events e, outbox.subscriptions s`); err != nil {
		t.Fatal(err)
	}
	check := func(what string, got outbox.Event, err error) {
		t.Helper()
		if err != nil || got.UID != e.UID {
			t.Errorf("%s: the UID is %q, %v; want %q", what, got.UID, err, e.UID)
		}
	}
	page, err := admin.ListEvents(ctx, db.Pool, admin.EventFilter{}, admin.ListOptions{})
	check("list", page.Items[0], err)
	deliveries, err := admin.ListDeliveries(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s"}, admin.ListOptions{})
	check("deliveries", deliveries.Items[0].Event, err)
	events, _, err := newTail(t, db, admin.TailConfig{}).Next(ctx)
	check("tail", events[0], err)
	row, err := admin.GetEvent(ctx, db.Pool, e.ID)
	check("by id", row.Event, err)
	check("its delivery", row.Fates[0].Delivery.Event, nil)
	for what, text := range map[string]string{
		"another tag":     uid.Make(0, e.ID, e.PublishedAt.UnixMicro()),
		"another moment":  uid.Make(1, e.ID, e.PublishedAt.UnixMicro()+1),
		"no event at all": uid.Make(1, e.ID+1, e.PublishedAt.UnixMicro()),
	} {
		if text == e.UID {
			continue // the tag is random
		}
		if _, err := admin.GetEventByUID(ctx, db.Pool, text); !errors.Is(err, admin.ErrUnknownEvent) {
			t.Errorf("by the UID of %s: %v", what, err)
		}
	}
	if _, err := admin.GetEventByUID(ctx, db.Pool, "17"); !errors.Is(err, admin.ErrInvalidFilter) {
		t.Errorf("by what is no UID: %v", err)
	}
	for _, expired := range []bool{false, true} {
		if expired {
			if _, err := db.Pool.Exec(ctx, `delete from outbox.events`); err != nil {
				t.Fatal(err)
			}
		}
		row, err := admin.GetEventByUID(ctx, db.Pool, strings.ToUpper(e.UID))
		if err != nil || row.Deleted != expired {
			t.Fatalf("by UID: %+v, %v; deleted: want %v", row, err, expired)
		}
		check("by UID", row.Event, nil)
	}
}
