package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signalbox-go/signalbox/outbox/admin"
)

func TestDeliveriesGroups(t *testing.T) {
	t.Parallel()
	db, ids := withDeliveries(t)
	refused := admin.DeliveryGroup{Error: "connection refused", Events: 3, First: ids[1], Last: ids[5]}
	unknown := admin.DeliveryGroup{Error: "no such customer", Events: 3, First: ids[0], Last: ids[4]}
	expect := func(want deliveryGroups, args ...string) {
		t.Helper()
		var got deliveryGroups
		decode(t, db, &got, append([]string{"deliveries", "groups", "-s", "mails"}, args...)...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v: %s", args, diff)
		}
	}
	expect(deliveryGroups{[]admin.DeliveryGroup{refused, unknown}, 6, 2})
	expect(deliveryGroups{[]admin.DeliveryGroup{refused}, 6, 2}, "--limit", "1")
	expect(deliveryGroups{[]admin.DeliveryGroup{unknown}, 3, 1}, "--error", "customer")
	expect(deliveryGroups{[]admin.DeliveryGroup{{Error: "no such customer", Events: 1, First: ids[8], Last: ids[8]}}, 1, 1}, "--state", "skipped")
	expect(deliveryGroups{[]admin.DeliveryGroup{}, 0, 0}, "--key", "nobody's")

	text := succeed(t, db, "deliveries", "groups", "-s", "mails", "--limit", "1")
	if !hasRow(text, []string{"3", fmt.Sprint(ids[1]), fmt.Sprint(ids[5]), "connection refused"}) || !strings.Contains(text, "\nAnd 1 other error: --limit lists more\n") {
		t.Errorf("text:\n%s", text)
	}
	if got := succeed(t, db, "deliveries", "groups", "-s", "audit"); got != "No delivery matches.\n" {
		t.Errorf("of another subscription: %q", got)
	}
	refuse(t, db.URL, 3, "unknown subscription", "deliveries", "groups", "-s", "nobody")
	refuse(t, db.URL, 2, "--subscription", "deliveries", "groups")
	refuse(t, db.URL, 2, "--limit is 0", "deliveries", "groups", "-s", "mails", "--limit", "0")

	// More than one look finds: those of later looks are added to their groups.
	const many = 45_000
	if _, err := db.Pool.Exec(t.Context(), `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, due_at, errors)
		select s.id, 1000 + n, 7, 'a.x', '{}', '{}', now(), 'dead', now(),
		       case when n % 9 > 0 then jsonb_build_array(jsonb_build_object('error', 'error ' || n % 9)) else '[]' end
		from outbox.subscriptions s, generate_series(1, $1::integer) n where s.name = 'mails'`, many); err != nil {
		t.Fatal(err)
	}
	var all deliveryGroups
	decode(t, db, &all, "deliveries", "groups", "-s", "mails")
	if all.Deliveries != many+6 || all.Errors != 11 || len(all.Groups) != 11 {
		t.Errorf("of many: %+v", all)
	}
	if want := (admin.DeliveryGroup{Error: "error 1", Events: many / 9, First: 1001, Last: 1000 + many - 8}); !slices.Contains(all.Groups, want) {
		t.Errorf("of many: no %+v in %+v", want, all.Groups)
	}
	if text := succeed(t, db, "deliveries", "groups", "-s", "mails"); !hasRow(text, []string{"5,000", "1009", fmt.Sprint(1000 + many), "(never tried)"}) {
		t.Errorf("text of many:\n%s", text)
	}
}
