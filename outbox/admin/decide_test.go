package admin_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// TestInvalidDeliveryFilters says which field it is, where the server would only say that some text is wrong.
func TestInvalidDeliveryFilters(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t).Pool
	for says, f := range map[string]admin.DeliveryFilter{
		"it names no subscription":                          {},
		"subscription is not UTF-8 text without zero bytes": {Subscription: "s\x00"},
		"there is no state \"gone\"":                        {Subscription: "s", States: []outbox.State{outbox.Dead, "gone"}},
		"there is no state \"dead\\x00\"":                   {Subscription: "s", States: []outbox.State{"dead\x00"}},
		"topic is not UTF-8 text without zero bytes":        {Subscription: "s", Topic: "a.\x00"},
		"key is not UTF-8 text without zero bytes":          {Subscription: "s", Key: "\xff"},
		"error is not UTF-8 text without zero bytes":        {Subscription: "s", Error: "refused\x00"},
	} {
		calls := map[string]func() error{
			"list":    func() error { _, err := admin.ListDeliveries(ctx, db, f, admin.ListOptions{}); return err },
			"count":   func() error { _, err := admin.CountDeliveries(ctx, db, f); return err },
			"groups":  func() error { _, err := admin.GroupDeliveries(ctx, db, f); return err },
			"retry":   func() error { _, err := admin.RetryDeliveries(ctx, db, f); return err },
			"skip":    func() error { _, err := admin.SkipDeliveries(ctx, db, f, "r"); return err },
			"discard": func() error { _, err := admin.DiscardDeliveries(ctx, db, f); return err },
		}
		for name, call := range calls {
			if err := call(); !errors.Is(err, admin.ErrInvalidFilter) || !strings.Contains(fmt.Sprint(err), says) {
				t.Errorf("%s: got %v, want %q", name, err, says)
			}
		}
	}
}

// TestUnknownSubscriptionOfDeliveries tells a name that is mistyped from a subscription that has no deliveries.
func TestUnknownSubscriptionOfDeliveries(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t).Pool
	if _, err := engine.Subscribe(ctx, db, "mails", []string{">"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(f admin.DeliveryFilter) (int64, error){
		"count":   func(f admin.DeliveryFilter) (int64, error) { return admin.CountDeliveries(ctx, db, f) },
		"retry":   func(f admin.DeliveryFilter) (int64, error) { return admin.RetryDeliveries(ctx, db, f) },
		"skip":    func(f admin.DeliveryFilter) (int64, error) { return admin.SkipDeliveries(ctx, db, f, "r") },
		"discard": func(f admin.DeliveryFilter) (int64, error) { return admin.DiscardDeliveries(ctx, db, f) },
	} {
		if n, err := call(admin.DeliveryFilter{Subscription: "mails"}); n != 0 || err != nil {
			t.Errorf("%s: got %d, %v", name, n, err)
		}
		if _, err := call(admin.DeliveryFilter{Subscription: "mail"}); !errors.Is(err, outbox.ErrUnknownSubscription) || !strings.Contains(err.Error(), `"mail"`) {
			t.Errorf("%s of an unknown subscription: got %v", name, err)
		}
	}
}

// TestBlockedFilter finds what waits behind an earlier one of its key, and does not pretend that it could be tried now.
func TestBlockedFilter(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t).Pool
	s, err := engine.Subscribe(ctx, db, "mails", []string{">"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(ctx, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at, stops_key)
		select $1, d.id, 1, 't', d.key, '1', '{}', now(), d.state, now(), d.stops
		from (values (1, 'a', 'retrying', false), (2, 'a', 'retrying', false), (3, 'b', 'dead', true), (4, 'b', 'retrying', false),
		             (5, 'c', 'dead', false), (6, 'c', 'retrying', false), (7, null, 'retrying', false), (8, null, 'retrying', false)) d (id, key, state, stops)`, s.ID)
	if err != nil {
		t.Fatal(err)
	}
	f := admin.DeliveryFilter{Subscription: "mails", States: []outbox.State{admin.Blocked}}
	list, err := admin.ListDeliveries(ctx, db, f, admin.ListOptions{Limit: 10})
	if err != nil || len(list.Items) != 2 || list.Items[0].Event.ID != 2 || list.Items[1].Event.ID != 4 {
		t.Errorf("listed %+v, %v", list, err)
	}
	if groups, err := admin.GroupDeliveries(ctx, db, f); err != nil || groups.Deliveries != 2 || len(groups.Groups) != 1 || groups.Groups[0].Last != 4 {
		t.Errorf("grouped %+v, %v", groups, err)
	}
	if status, err := admin.GetStatus(ctx, db); err != nil || status.Subscriptions[0].Deliveries[admin.Blocked] != 2 {
		t.Errorf("status: %+v, %v", status, err)
	}
	// What is blocked is not retrying, whatever reads or decides.
	for states, want := range map[*[]outbox.State]string{
		{outbox.Retrying}:                               "[1 6 7 8]",
		{outbox.Retrying, outbox.Dead}:                  "[1 3 5 6 7 8]",
		{admin.Blocked, outbox.Dead}:                    "[2 3 4 5]",
		{outbox.Retrying, admin.Blocked}:                "[1 2 4 6 7 8]",
		{outbox.Retrying, admin.Blocked, outbox.Dead}:   "[1 2 3 4 5 6 7 8]",
		{outbox.Dead, outbox.Running, outbox.Skipped}:   "[3 5]",
		{outbox.Running, admin.Blocked, outbox.Skipped}: "[2 4]",
	} {
		f := admin.DeliveryFilter{Subscription: "mails", States: *states}
		list, err := admin.ListDeliveries(ctx, db, f, admin.ListOptions{Limit: 10})
		ids := []int64{}
		for _, d := range list.Items {
			ids = append(ids, d.Event.ID)
		}
		if fmt.Sprint(ids) != want || err != nil {
			t.Errorf("%v: listed %v, %v; want %s", *states, ids, err, want)
		}
		if groups, err := admin.GroupDeliveries(ctx, db, f); int(groups.Deliveries) != len(ids) || err != nil {
			t.Errorf("%v: grouped %+v, %v", *states, groups, err)
		}
		if n, err := admin.CountDeliveries(ctx, db, f); int(n) != len(ids) || err != nil {
			t.Errorf("%v: counted %d, %v", *states, n, err)
		}
		if n, err := admin.CountDeliveriesUpTo(ctx, db, f, 3); int(n) != min(len(ids), 3) || err != nil {
			t.Errorf("%v: counted %d to 3, %v", *states, n, err)
		}
	}
	retrying := admin.DeliveryFilter{Subscription: "mails", States: []outbox.State{outbox.Retrying}}
	if n, err := admin.RetryDeliveries(ctx, db, retrying); n != 4 || err != nil {
		t.Errorf("retried %d that are retrying, %v", n, err)
	}
	if n, err := admin.RetryDeliveries(ctx, db, f); n != 0 || !errors.Is(err, admin.ErrInvalidFilter) {
		t.Errorf("retried %d, %v", n, err)
	}
	if n, err := admin.SkipDeliveries(ctx, db, f, "r"); n != 2 || err != nil {
		t.Errorf("skipped %d, %v", n, err)
	}
}
