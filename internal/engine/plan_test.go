package engine

import (
	"context"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/plantest"

	"github.com/signalbox-go/signalbox/outbox"
)

// TestPlans pins how the hot queries reach the big tables: by the index that serves them, in a few hundred pages, with a
// million events, an old snapshot held open, a hundred pending transactions, and a huge one that is still running. The plans
// are made while the tables are empty and nothing is known about them, used on, and made anew with statistics.
//
// It does not run beside other tests: their transactions, in the same cluster, would count as ended ones.
func TestPlans(t *testing.T) {
	ctx := context.Background()
	db := pgtest.New(t)
	sub, err := Subscribe(ctx, db.Pool, "plans", []string{"plan.>"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	control := db.Conn(t)
	worker, err := Join(ctx, control, "plans", true, time.Hour, []int32{sub.ID})
	if err != nil {
		t.Fatal(err)
	}
	reader := db.Conn(t)
	m := NewMember(reader, worker, sub)
	if _, err := m.Claim(ctx, Lanes); err != nil {
		t.Fatal(err)
	}
	var refilled int16 // the lane of key-1
	if err := db.Pool.QueryRow(ctx, `select hashtext('key-1') & 63`).Scan(&refilled); err != nil {
		t.Fatal(err)
	}
	const held = 150           // keys in each lane, beside one with many events
	some := make([]int64, 512) // ids of deliveries
	for i := range some {
		some[i] = -int64(1 + 100*i)
	}
	queries := []plantest.Query{
		{
			Name: "read", Setup: readSetup, SQL: readSQL,
			Args: func([]int64) []any { return m.readArgs(m.cursors, 5120, m.filter) },
			Want: []string{"events: Index Scan events_lane_id", "events: Index Scan events_xid_id"},
			// 64 lanes × (3 levels + 80 rows), and a probe for each ended transaction
			Pages: 64*(4+80)*2 + 100*8,
		},
		{
			Name: "probe", Setup: readSetup, SQL: probeSQL,
			Args: func(pending []int64) []any {
				if len(pending) == 0 {
					return []any{[]int64{}, int64(0), int64(0), probeRows}
				}
				return []any{pending, pending[len(pending)-1] + 1, int64(0), probeRows}
			},
			Want:  []string{"events: Index Scan events_xid_id"},
			Pages: 100*8 + 2*probeRows,
		},
		{
			Name: "difference", Setup: readSetup, SQL: differenceSQL,
			Args: func(pending []int64) []any {
				stand := Stand{cursors: m.cursors, snapshot: snapshot{xip: pending}, filter: m.like}
				if len(pending) > 0 {
					stand.snapshot.xmax = pending[len(pending)-1] + 1
				}
				return differenceArgs([]Stand{stand})
			},
			Want:  []string{"events: Index Scan events_xid_id"},
			Pages: 100*8 + 2*differenceRows,
		},
		{
			Name: "unfinished", Setup: readSetup, SQL: unfinishedSQL,
			Args: func([]int64) []any {
				return []any{
					worker, sub.ID,
					[]int64{500_000, 500_001},
					[]int16{3, 4},
					[]string{"retrying", "dead"},
					[]bool{false, false},
					[]int32{1, 1},
					[]time.Duration{time.Second, time.Second},
					[]string{"[]", "[]"},
					[]bool{false, true},
					[]bool{true, false},
				}
			},
			Want:  []string{"events: Index Scan events_lane_id"},
			Pages: 100,
		},
		{
			Name: "claim_due", Setup: claimSetup, SQL: claimDueSQL,
			Args: func([]int64) []any {
				return []any{worker, sub.ID, []int16{1, 2, 5}, []string{"key-1", "", "long"}, int32(64), int32(2), int32(64), true, int64(windowBytes), int64(suspectBytes), []int64{}, []bool{true, false, false}, []string{"", "t", ""}}
			},
			Want:  []string{"events: Index Scan events_lane_id", "deliveries: Index Scan deliveries_line", "deliveries: Index Scan deliveries_due", "deliveries: Index Scan deliveries_pkey", "deliveries: Index Scan deliveries_owner"},
			Pages: 3*8 + 3*64*8, // whatever waits behind
		},
		{
			Name: "lines", Setup: claimSetup, SQL: linesSQL,
			Args: func([]int64) []any {
				lanes := make([]int16, Lanes)
				for i := range lanes {
					lanes[i] = int16(i)
				}
				return []any{sub.ID, lanes, []string{}}
			},
			Want:  []string{"deliveries: Index Scan deliveries_line", "deliveries: Index Scan deliveries_due", "deliveries: Index Scan deliveries_owner", "deliveries: Index Scan deliveries_pkey"},
			Pages: 250_000, // of 200,000 unfinished ones, without what is dead
		},
		{
			Name: "delivered", Setup: readSetup, SQL: deliveredSQL,
			Args:  func([]int64) []any { return []any{worker, sub.ID, some} },
			Want:  []string{"deliveries: Index Scan deliveries_pkey"},
			Pages: 8 * len(some), // with those of what is deleted
		},
		{
			Name: "failed", Setup: readSetup, SQL: failedSQL,
			Args: func([]int64) []any {
				states, stops, attempts, delays, errors := make([]string, len(some)), make([]bool, len(some)), make([]int32, len(some)), make([]time.Duration, len(some)), make([]string, len(some))
				for i := range some {
					states[i], errors[i] = "retrying", "[]"
				}
				return []any{worker, sub.ID, some, states, stops, attempts, delays, errors, make([]bool, len(some))}
			},
			Want:  []string{"deliveries: Index Scan deliveries_pkey", "events: Index Scan events_lane_id"},
			Pages: 40 * len(some), // with those of the new versions, in five indexes
		},
		{
			Name: "for_others", Setup: readSetup, SQL: forOthersSQL,
			Args:  func([]int64) []any { return []any{sub.ID, []int16{1, 2, 5}} },
			Want:  []string{"deliveries: Index Scan deliveries_for_others", "deliveries: Index Scan deliveries_pkey"},
			Pages: 20, // whatever else there is
		},
		{
			Name: "waiting", Setup: claimSetup, SQL: waitingSQL,
			Args: func([]int64) []any {
				return []any{sub.ID, []int16{1, 2, 5}, []string{"key-1", "", "long"}, worker, int32(64), []int64{}, []string{"", "t", ""}}
			},
			Want:  []string{"deliveries: Index Scan deliveries_line", "deliveries: Index Scan deliveries_due", "deliveries: Index Scan deliveries_owner"},
			Pages: 3 * (10 + 65), // whatever else waits
		},
		{
			Name: "refill", Setup: refillSetup, SQL: refillSQL,
			Args: func([]int64) []any {
				return []any{
					sub.ID,
					refilled,
					[]string{"key-1", "key-none", "long"},
					[]int32{20, 20, 20},
					int64(1_000_000), int32(1000), m.topics.Regex(), int64(0), "{}", "{}", int64(0), "1 day", true,
				}
			},
			Want:  []string{"events: Index Scan events_lane_id", "held_keys: Index Scan held_keys_pkey"},
			Pages: 3*4 + 4 + 2*1000, // what it looks at, however much is held, in this lane and of others
		},
		{
			Name: "held", Setup: claimSetup, SQL: heldSQL,
			Args:  func([]int64) []any { return []any{sub.ID, []int16{refilled, refilled + 1}, "1 day"} },
			Want:  []string{"events: Index Scan events_lane_id", "held_keys: Index Scan held_keys_pkey"},
			Pages: 100 + 2*2000, // an event of each lane, behind those of the huge transaction
		},
		{
			Name: "old", Setup: readSetup, SQL: oldSQL,
			Args:  func([]int64) []any { return []any{sub.ID, int64(1_000_000), m.topics.Regex(), int32(Lanes)} },
			Want:  []string{"events: Index Scan events_lane_id"},
			Pages: Lanes * (4 + 2*161 + 2000), // however much is behind those of the huge transaction
		},
		{
			Name: "late_lanes", Setup: readSetup, SQL: lateLanesSQL,
			Args: func(pending []int64) []any {
				after := make([]int64, len(pending))
				for i, xid := range pending {
					after[i] = xid + 1
				}
				return []any{append([]int64{}, pending...), after, int64(0), int64(0)}
			},
			Want:  []string{"events: Index Scan events_xid_id"},
			Pages: 50 * 8,
		},
	}
	plantest.Pin(t, db, sub.ID, queries, func() {
		plantest.Exec(t, db.Conn(t), `
			insert into outbox.held_keys (subscription_id, lane, key, from_id)
			select $1::integer, i % 64, 'key-' || i, 100000 + i from generate_series(1, 64 * $2::integer) i
			union all
			select $1::integer, $3::smallint, k, 100000 from unnest(array['key-1', 'long']) k
			on conflict do nothing`, sub.ID, held-2, refilled)
		for { // pass what is there, so that the open transactions are pending
			w, err := m.Read(ctx, 100_000)
			if err != nil {
				t.Fatal(err)
			}
			if w.Empty() {
				break
			}
		}
	})
}
