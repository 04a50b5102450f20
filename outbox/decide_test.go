package outbox_test

import (
	"slices"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestGroupDeliveries groups by the first line of the last error, and looks at 10,000 deliveries at most.
func TestGroupDeliveries(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	if _, err := outbox.Subscribe(ctx, db.Pool, "s", []string{">"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	add := func(from, to int, failures string) {
		t.Helper()
		_, err := db.Pool.Exec(ctx, `
			insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, due_at, errors)
			select 1, i, i % 64, 'a', '1', '{}', now(), 'dead', now(), $3::jsonb from generate_series($1::integer, $2::integer) i`,
			from, to, failures)
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(limit int, wantPartial bool, want ...outbox.DeliveryGroup) {
		t.Helper()
		groups, partial, err := outbox.GroupDeliveries(ctx, db.Pool, outbox.DeliveryFilter{Subscription: "s"}, limit)
		if err != nil || partial != wantPartial || !slices.Equal(groups, want) {
			t.Errorf("got %+v, partial %v, %v; want %+v", groups, partial, err, want)
		}
	}
	expect(10, false)
	add(1, 3, `[{"error": "first"}, {"error": "refused\nat line 1"}]`)
	add(4, 5, `[{"error": "refused"}]`)
	add(6, 7, `[{"error": "first"}]`)
	add(8, 8, `[]`)
	refused, first := outbox.DeliveryGroup{Error: "refused", Events: 5, First: 1, Last: 5}, outbox.DeliveryGroup{Error: "first", Events: 2, First: 6, Last: 7}
	expect(10, false, refused, first, outbox.DeliveryGroup{Events: 1, First: 8, Last: 8})
	expect(1, false, refused)
	add(9, 12000, `[{"error": "again"}]`)
	expect(1, true, outbox.DeliveryGroup{Error: "again", Events: 9992, First: 9, Last: 10000})
}
