package outbox_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestInvalidDeliveryFilters says which field it is, where the server would only say that some text is wrong.
func TestInvalidDeliveryFilters(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t).Pool
	for says, f := range map[string]outbox.DeliveryFilter{
		"it names no subscription":                          {},
		"subscription is not UTF-8 text without zero bytes": {Subscription: "s\x00"},
		"there is no state \"gone\"":                        {Subscription: "s", States: []outbox.State{outbox.Dead, "gone"}},
		"there is no state \"dead\\x00\"":                   {Subscription: "s", States: []outbox.State{"dead\x00"}},
		"topic is not UTF-8 text without zero bytes":        {Subscription: "s", Topic: "a.\x00"},
		"key is not UTF-8 text without zero bytes":          {Subscription: "s", Key: "\xff"},
		"error is not UTF-8 text without zero bytes":        {Subscription: "s", Error: "refused\x00"},
	} {
		calls := map[string]func() error{
			"list":    func() error { _, err := outbox.ListDeliveries(ctx, db, f, 0, 1); return err },
			"count":   func() error { _, err := outbox.CountDeliveries(ctx, db, f); return err },
			"look":    func() error { _, err := outbox.LookAtDeliveries(ctx, db, f, 0, 1); return err },
			"retry":   func() error { _, err := outbox.RetryDeliveries(ctx, db, f); return err },
			"skip":    func() error { _, err := outbox.SkipDeliveries(ctx, db, f, "r"); return err },
			"discard": func() error { _, err := outbox.DiscardDeliveries(ctx, db, f); return err },
		}
		for name, call := range calls {
			if err := call(); !errors.Is(err, outbox.ErrInvalidFilter) || !strings.Contains(fmt.Sprint(err), says) {
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
	if _, err := outbox.Subscribe(ctx, db, "mails", []string{">"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(f outbox.DeliveryFilter) (int64, error){
		"count":   func(f outbox.DeliveryFilter) (int64, error) { return outbox.CountDeliveries(ctx, db, f) },
		"retry":   func(f outbox.DeliveryFilter) (int64, error) { return outbox.RetryDeliveries(ctx, db, f) },
		"skip":    func(f outbox.DeliveryFilter) (int64, error) { return outbox.SkipDeliveries(ctx, db, f, "r") },
		"discard": func(f outbox.DeliveryFilter) (int64, error) { return outbox.DiscardDeliveries(ctx, db, f) },
	} {
		if n, err := call(outbox.DeliveryFilter{Subscription: "mails"}); n != 0 || err != nil {
			t.Errorf("%s: got %d, %v", name, n, err)
		}
		if _, err := call(outbox.DeliveryFilter{Subscription: "mail"}); !errors.Is(err, outbox.ErrUnknownSubscription) || !strings.Contains(err.Error(), `"mail"`) {
			t.Errorf("%s of an unknown subscription: got %v", name, err)
		}
	}
}
