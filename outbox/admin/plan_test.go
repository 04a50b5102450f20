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
	ctx := t.Context()
	db := pgtest.New(t)
	sub, err := engine.Subscribe(ctx, db.Pool, "plans", []string{"plan.>"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
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
			Args:  func([]int64) []any { return []any{sub.ID, BoundedCount + 1} },
			Want:  []string{"deliveries: Index Scan deliveries_decide", "deliveries: Index Scan deliveries_line", "deliveries: Index Scan deliveries_due", "deliveries: Index Scan deliveries_owner"},
			Pages: 3 * (BoundedCount + 200), // whatever else there is
		},
		lookPlan(t, sub, "retrying", outbox.Retrying),
		lookPlan(t, sub, "blocked", Blocked),
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

// lookPlan is a look at deliveries in a state that has to be told from another: each is probed, and none walks its line.
func lookPlan(t *testing.T, sub engine.Subscription, name string, state outbox.State) plantest.Query {
	t.Helper()
	f := DeliveryFilter{Subscription: sub.Name, States: []outbox.State{state}}
	args, err := f.args(int64(-1<<60), scanRows, 100)
	if err != nil {
		t.Fatal(err)
	}
	return plantest.Query{
		Name: name, Setup: engine.ScanSetup, SQL: f.groupsSQL(),
		Args:  func([]int64) []any { return args },
		Want:  []string{"deliveries: Index Scan deliveries_pkey", "deliveries: Index Scan deliveries_line"},
		Pages: 12 * scanRows,
	}
}
