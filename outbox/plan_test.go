package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// A planNode is what matters of a node of EXPLAIN's output.
type planNode struct {
	NodeType     string     `json:"Node Type"`
	Relation     string     `json:"Relation Name"`
	Index        string     `json:"Index Name"`
	SharedHit    int        `json:"Shared Hit Blocks"`
	SharedRead   int        `json:"Shared Read Blocks"`
	Plans        []planNode `json:"Plans"`
	originalText string
}

// scans returns how each table is accessed, as "table: node index".
func (n planNode) scans() map[string]bool {
	found := map[string]bool{}
	if n.Relation != "" {
		how := strings.Replace(n.NodeType, "Index Only Scan", "Index Scan", 1)
		found[strings.TrimSpace(fmt.Sprintf("%s: %s %s", n.Relation, how, n.Index))] = true
	}
	for _, child := range n.Plans {
		for scan := range child.scans() {
			found[scan] = true
		}
	}
	return found
}

// A hotQuery is one whose plan must not change, whatever the planner knows about the tables.
type hotQuery struct {
	name  string
	setup string // sent before it, in the same transaction
	sql   string
	args  func() []any
	want  []string // the only ways in which tables of any size are accessed
	pages int      // that it may look at, at most
}

// prepare makes the query's plan, as the first executions on a fresh database do. A generic one stays until there are new statistics.
func (q hotQuery) prepare(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	mustExec(t, conn, "set plan_cache_mode = force_generic_plan")
	mustExec(t, conn, strings.ReplaceAll(q.setup, "true)", "false)"))
	types := make([]string, len(q.args()))
	for i, arg := range q.args() {
		types[i] = sqlType(arg)
	}
	mustExec(t, conn, fmt.Sprintf("prepare %s (%s) as %s", q.name, strings.Join(types, ", "), q.sql))
	mustExec(t, conn, "explain "+q.execute())
}

// execute is the statement that runs the prepared query.
func (q hotQuery) execute() string {
	values := make([]string, len(q.args()))
	for i, arg := range q.args() {
		values[i] = sqlLiteral(arg)
	}
	return fmt.Sprintf("execute %s (%s)", q.name, strings.Join(values, ", "))
}

// explain runs the prepared query and returns what it did.
func (q hotQuery) explain(t *testing.T, conn *pgx.Conn) planNode {
	t.Helper()
	ctx := context.Background()
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // it may write
	var raw []byte
	err = tx.QueryRow(ctx, "explain (analyze, buffers, format json) "+q.execute(), pgx.QueryExecModeSimpleProtocol).Scan(&raw)
	if err != nil {
		t.Fatalf("%s: %v", q.name, err)
	}
	var plans []struct{ Plan planNode }
	if err := json.Unmarshal(raw, &plans); err != nil {
		t.Fatal(err)
	}
	plans[0].Plan.originalText = string(raw)
	return plans[0].Plan
}

func mustExec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func sqlType(arg any) string {
	switch arg.(type) {
	case int64:
		return "bigint"
	case int32, int:
		return "integer"
	case []int64:
		return "bigint[]"
	case []int32:
		return "integer[]"
	case []int16:
		return "smallint[]"
	case []string:
		return "text[]"
	case []time.Duration:
		return "interval[]"
	case []bool:
		return "boolean[]"
	case bool:
		return "boolean"
	case string:
		return "text"
	}
	panic(fmt.Sprintf("%T", arg))
}

func sqlLiteral(arg any) string {
	switch v := reflect.ValueOf(arg); v.Kind() {
	case reflect.Slice:
		if v.IsNil() && sqlType(arg) == "text[]" {
			return "null"
		}
		items := make([]string, v.Len())
		for i := range items {
			items[i] = fmt.Sprintf("%q", fmt.Sprint(v.Index(i).Interface()))
		}
		return "'{" + strings.Join(items, ",") + "}'"
	case reflect.String:
		return "'" + v.String() + "'"
	default:
		return fmt.Sprint(arg)
	}
}

// TestPlans pins how the hot queries reach the big tables: by the index that serves them, in a few hundred pages, with a
// million events, an old snapshot held open, a hundred pending transactions, and a huge one that is still running. The plans
// are made while the tables are empty and nothing is known about them, used on, and made anew with statistics.
//
// It does not run beside other tests: their transactions, in the same cluster, would count as ended ones.
func TestPlans(t *testing.T) {
	ctx := context.Background()
	db := pgtest.New(t)
	sub, err := Subscribe(ctx, db.Pool, "plans", []string{"plan.>"}, FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	control := db.Conn(t)
	worker, err := Join(ctx, control, "plans", true, []int32{sub.ID})
	if err != nil {
		t.Fatal(err)
	}
	reader := db.Conn(t)
	m := NewMember(reader, worker, sub)
	if _, err := m.Claim(ctx, Lanes); err != nil {
		t.Fatal(err)
	}
	// Where deliveries come and go: those of another subscription, when statistics were taken, and none when plans are made.
	mustExec(t, control, `
		with other as (insert into outbox.subscriptions (name, topics) values ('other', '{>}') returning id)
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at)
		select o.id, i, i % 64, 't', 'key-' || i, '1', '{}', now(), 'retrying', now() from other o, generate_series(1, 5000) i`)
	mustExec(t, control, "analyze outbox.deliveries")
	mustExec(t, control, "delete from outbox.deliveries")
	mustExec(t, control, "vacuum outbox.deliveries") // which truncates it
	some := make([]int64, 512)                       // ids of deliveries
	for i := range some {
		some[i] = -int64(1 + 100*i)
	}
	var pendingXids []int64
	queries := []hotQuery{
		{
			name: "read", setup: readSetup, sql: readSQL,
			args: func() []any { return m.readArgs(5120) },
			want: []string{"events: Index Scan events_lane_id", "events: Index Scan events_xid_id"},
			// 64 lanes × (3 levels + 80 rows), and a probe for each ended transaction
			pages: 64*(4+80)*2 + 100*8,
		},
		{
			name: "probe", setup: readSetup, sql: probeSQL,
			args: func() []any {
				if len(pendingXids) == 0 {
					return []any{[]int64{}, int64(0), int64(0), probeRows}
				}
				return []any{pendingXids, pendingXids[len(pendingXids)-1] + 1, int64(0), probeRows}
			},
			want:  []string{"events: Index Scan events_xid_id"},
			pages: 100*8 + 2*probeRows,
		},
		{
			name: "lag", sql: lagSQL,
			args:  func() []any { return []any{sub.ID, m.topics.regex(), int32(lagScan), int32(Lanes)} },
			want:  []string{"events: Index Scan events_lane_id", "events: Index Scan events_xid_id"},
			pages: 64*8 + 3*lagScan,
		},
		{
			name: "unfinished", setup: readSetup, sql: unfinishedSQL,
			args: func() []any {
				return []any{
					worker, sub.ID,
					[]int64{500_000, 500_001},
					[]int16{3, 4},
					[]string{"retrying", "dead"},
					[]bool{false, false},
					[]int32{1, 1},
					[]time.Duration{time.Second, time.Second},
					[]string{"[]", "[]"},
				}
			},
			want:  []string{"events: Index Scan events_lane_id"},
			pages: 100,
		},
		{
			name: "claim_due", setup: claimSetup, sql: claimDueSQL,
			args: func() []any {
				return []any{worker, sub.ID, []int16{1, 2, 5}, []string{"key-1", "", "long"}, int32(64), int32(2), int32(64), true}
			},
			want:  []string{"deliveries: Index Scan deliveries_line", "deliveries: Index Scan deliveries_due", "deliveries: Index Scan deliveries_pkey", "deliveries: Index Scan deliveries_owner"},
			pages: 3*8 + 3*64*8, // whatever waits behind
		},
		{
			name: "lines", setup: claimSetup, sql: linesSQL,
			args: func() []any {
				lanes := make([]int16, Lanes)
				for i := range lanes {
					lanes[i] = int16(i)
				}
				return []any{sub.ID, lanes}
			},
			want:  []string{"deliveries: Index Scan deliveries_line", "deliveries: Index Scan deliveries_due", "deliveries: Index Scan deliveries_owner"},
			pages: 250_000, // of 200,000 unfinished ones, without what is dead
		},
		{
			name: "delivered", setup: readSetup, sql: deliveredSQL,
			args:  func() []any { return []any{worker, sub.ID, some} },
			want:  []string{"deliveries: Index Scan deliveries_pkey"},
			pages: 8 * len(some), // with those of what is deleted
		},
		{
			name: "failed", setup: readSetup, sql: failedSQL,
			args: func() []any {
				states, stops, attempts, delays, errors := make([]string, len(some)), make([]bool, len(some)), make([]int32, len(some)), make([]time.Duration, len(some)), make([]string, len(some))
				for i := range some {
					states[i], errors[i] = "retrying", "[]"
				}
				return []any{worker, sub.ID, some, states, stops, attempts, delays, errors}
			},
			want:  []string{"deliveries: Index Scan deliveries_pkey"},
			pages: 40 * len(some), // with those of the new versions, in five indexes
		},
		{
			name: "waiting", setup: claimSetup, sql: waitingSQL,
			args:  func() []any { return []any{sub.ID, []int16{1, 2, 5}, []string{"key-1", "", "long"}, worker, int32(64)} },
			want:  []string{"deliveries: Index Scan deliveries_line", "deliveries: Index Scan deliveries_due", "deliveries: Index Scan deliveries_owner"},
			pages: 3 * (10 + 65), // whatever else waits
		},
		{
			name: "glance", setup: scanSetup, sql: glanceSQL,
			args:  func() []any { return []any{sub.ID, GlanceMost + 1} },
			want:  []string{"deliveries: Index Scan deliveries_decide", "deliveries: Index Scan deliveries_line", "deliveries: Index Scan deliveries_due", "deliveries: Index Scan deliveries_owner"},
			pages: 3 * (GlanceMost + 200), // whatever else there is
		},
	}
	conns := make([]*pgx.Conn, len(queries))
	for i, q := range queries {
		conns[i] = db.Conn(t)
		q.prepare(t, conns[i])
	}

	// An old snapshot, and transactions that took ids before most of the log and ended after a reader had passed them.
	snapshotHolder := db.Conn(t)
	mustExec(t, snapshotHolder, "begin isolation level repeatable read")
	mustExec(t, snapshotHolder, "select count(*) from outbox.events")
	var pending []*pgx.Conn
	for range 50 {
		conn := db.Conn(t)
		mustExec(t, conn, "begin")
		mustExec(t, conn, "insert into outbox.events (topic, key, payload) values ('plan.pending', 'key-1', '1')")
		var xid int64
		if err := conn.QueryRow(ctx, "select pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
			t.Fatal(err)
		}
		pending, pendingXids = append(pending, conn), append(pendingXids, xid)
	}
	huge := db.Conn(t)
	mustExec(t, huge, "begin")
	mustExec(t, huge, "insert into outbox.events (topic, payload) select 'plan.huge', '1' from generate_series(1, 200000)")
	const fill = `insert into outbox.events (topic, key, payload)
		select 'plan.filled', 'key-' || i % 1000, jsonb_build_object('n', i, 'filler', repeat('x', 100)) from generate_series($1::integer, $2::integer) i`
	mustExec(t, control, fill, 1, 500_000)
	for { // pass what is there, so that the open transactions are pending
		w, err := m.Read(ctx, 100_000)
		if err != nil {
			t.Fatal(err)
		}
		if w.Empty() {
			break
		}
	}
	for _, conn := range pending[:25] {
		mustExec(t, conn, "commit")
	}
	mustExec(t, control, fill, 500_001, 1_000_000)
	mustExec(t, control, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at, attempt)
		select $1::integer, -i, i % 64, 't', case when i % 3 > 0 then 'key-' || i % 1000 end, '1'::jsonb, '{}'::jsonb, now(), 'retrying', now(), i / 100 % 2
		from generate_series(1, 100000) i
		union all
		select $1::integer, -i, 5, 't', 'long', '1'::jsonb, '{}'::jsonb, now(), 'retrying', now(), 0
		from generate_series(100001, 200000) i
		union all
		select $1::integer, -i, 5, 't', 'key-' || i, '1'::jsonb, '{}'::jsonb, now(), 'dead', now(), 10
		from generate_series(200001, 300000) i`, sub.ID)

	check := func(when string) {
		for i, q := range queries {
			plan := q.explain(t, conns[i])
			want := map[string]bool{}
			for _, scan := range q.want {
				want[scan] = true
			}
			for scan := range plan.scans() {
				big := strings.HasPrefix(scan, "events:") || strings.HasPrefix(scan, "deliveries: ") && !strings.Contains(scan, "ModifyTable")
				if big && !want[scan] {
					t.Errorf("%s %s: accesses %q, want only %q", q.name, when, scan, q.want)
				}
			}
			if pages := plan.SharedHit + plan.SharedRead; pages > q.pages {
				t.Errorf("%s %s: looked at %d pages, at most %d expected\n%s", q.name, when, pages, q.pages, plan.originalText)
			}
		}
	}
	check("with the plan of an empty table")
	mustExec(t, control, "analyze outbox.events")
	mustExec(t, control, "analyze outbox.deliveries")
	check("with statistics")
	for _, conn := range append(pending, huge) {
		mustExec(t, conn, "commit")
	}
}
