package admin

import (
	"testing"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/plantest"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestPlans pins how status reaches the big tables. It does not run beside other tests: their transactions, in the same cluster, would
// count as ended ones.
func TestPlans(t *testing.T) {
	const bound = 10_001
	ctx := t.Context()
	db := pgtest.New(t)
	sub, err := engine.Subscribe(ctx, db.Pool, "plans", []string{"plan.>"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	rows := chosenPlan(t, sub, "rows_chosen", DeliveryFilter.rowsSQL, PageBytes)
	rows.Want = append(rows.Want, "events: Index Scan events_lane_id") // for those without a copy
	plantest.Pin(t, db, sub.ID, []plantest.Query{
		{
			Name: "lag", SQL: lagSQL,
			Args: func([]int64) []any {
				return []any{sub.ID, topic.Patterns(sub.Topics).Regex(), int32(lagScan), int32(engine.Lanes)}
			},
			Want:  []string{"events: Index Scan events_lane_id", "events: Index Scan events_xid_id", "held_keys: Index Scan held_keys_pkey", "held_keys: Bitmap Heap Scan"},
			Pages: 64*8 + 3*lagScan,
		},
		{
			Name: "bounded_status", Setup: engine.ScanSetup, SQL: boundedSQL,
			Args:  func([]int64) []any { return []any{sub.ID, bound} },
			Want:  []string{"deliveries: Index Scan deliveries_decide", "deliveries: Index Scan deliveries_line", "deliveries: Index Scan deliveries_due", "deliveries: Index Scan deliveries_owner"},
			Pages: 3 * (bound + 200), // whatever else there is
		},
		groupsPlan(t, sub, "groups_retrying", outbox.Retrying),
		groupsPlan(t, sub, "groups_blocked", Blocked),
		searchPlan(t, sub, "search_retrying", outbox.Retrying),
		searchPlan(t, sub, "search_blocked", Blocked),
		chosenPlan(t, sub, "search_chosen", DeliveryFilter.searchSQL, int64(-1<<60), scanRows, 3),
		rows,
	}, func() {
		_, err := db.Pool.Exec(ctx, `
			update outbox.lanes l
			set after_id = (select pg_sequence_last_value('outbox.events_id_seq')),
			    pending = (select multirange(int8range(min(x.x::text::bigint), max(x.x::text::bigint) + 1)) from pg_snapshot_xip(pg_current_snapshot()) as x (x))
			where l.subscription_id = $1`, sub.ID)
		if err != nil {
			t.Fatal(err)
		}
	})
}

// groupsPlan groups deliveries in a state that has to be told from another: each is probed, and none walks its line.
func groupsPlan(t *testing.T, sub engine.Subscription, name string, state outbox.State) plantest.Query {
	t.Helper()
	f := DeliveryFilter{Subscription: sub.Name, States: []outbox.State{state}}
	return deliveriesPlan(t, name, f, f.groupsSQL(), int64(-1<<60), int64(scanRows))
}

// searchPlan looks for one delivery that matches, of which there is none.
func searchPlan(t *testing.T, sub engine.Subscription, name string, state outbox.State) plantest.Query {
	t.Helper()
	f := DeliveryFilter{Subscription: sub.Name, States: []outbox.State{state}, Topic: "none"}
	return deliveriesPlan(t, name, f, f.searchSQL(), int64(-1<<60), scanRows, 1)
}

// chosenPlan reaches dead letters by their ids, however many others there are.
func chosenPlan(t *testing.T, sub engine.Subscription, name string, sql func(DeliveryFilter) string, more ...any) plantest.Query {
	t.Helper()
	f := DeliveryFilter{Subscription: sub.Name, IDs: []int64{-1, -2, -3}}
	q := deliveriesPlan(t, name, f, sql(f), more...)
	q.Want, q.Pages = []string{"deliveries: Index Scan deliveries_pkey"}, 50
	return q
}

func deliveriesPlan(t *testing.T, name string, f DeliveryFilter, sql string, more ...any) plantest.Query {
	t.Helper()
	args, err := f.args(more...)
	if err != nil {
		t.Fatal(err)
	}
	return plantest.Query{
		Name: name, Setup: engine.ScanSetup, SQL: sql,
		Args:  func([]int64) []any { return args },
		Want:  []string{"deliveries: Index Scan deliveries_pkey", "deliveries: Index Scan deliveries_line"},
		Pages: 12 * scanRows,
	}
}
