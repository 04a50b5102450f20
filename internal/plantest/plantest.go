// Package plantest pins the plans of hot queries.
package plantest

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// A Node is what matters of a node of EXPLAIN's output.
type Node struct {
	NodeType   string `json:"Node Type"`
	Relation   string `json:"Relation Name"`
	Index      string `json:"Index Name"`
	SharedHit  int    `json:"Shared Hit Blocks"`
	SharedRead int    `json:"Shared Read Blocks"`
	Plans      []Node `json:"Plans"`
}

// Parse returns the topmost node of what EXPLAIN printed as JSON.
func Parse(t testing.TB, raw []byte) Node {
	t.Helper()
	var plans []struct{ Plan Node }
	if err := json.Unmarshal(raw, &plans); err != nil {
		t.Fatal(err)
	}
	return plans[0].Plan
}

// Pages is how many pages the node and those below it looked at.
func (n Node) Pages() int { return n.SharedHit + n.SharedRead }

// Scans returns how tables are accessed, as "table: node index".
func (n Node) Scans() (found []string) {
	if n.Relation != "" {
		how := strings.Replace(n.NodeType, "Index Only Scan", "Index Scan", 1)
		found = append(found, strings.TrimSpace(fmt.Sprintf("%s: %s %s", n.Relation, how, n.Index)))
	}
	for _, child := range n.Plans {
		found = append(found, child.Scans()...)
	}
	return found
}

// A Query is a hot one, whose plan must not change, whatever the planner knows about the tables.
type Query struct {
	Name  string
	Setup string // sent before it, in the same transaction
	SQL   string
	Args  func(pending []int64) []any // pending are transactions that are passed by cursors and end later; none when plans are made
	Want  []string                    // the only ways in which tables of any size are accessed
	Pages int                         // that it may look at, at most

	pending []int64
}

// prepare makes the query's plan, as the first executions on a fresh database do. A generic one stays until there are new statistics.
func (q Query) prepare(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	Exec(t, conn, "set plan_cache_mode = force_generic_plan")
	Exec(t, conn, strings.ReplaceAll(q.Setup, "true)", "false)"))
	types := make([]string, len(q.Args(q.pending)))
	for i, arg := range q.Args(q.pending) {
		types[i] = sqlType(arg)
	}
	Exec(t, conn, fmt.Sprintf("prepare %s (%s) as %s", q.Name, strings.Join(types, ", "), q.SQL))
	Exec(t, conn, "explain "+q.execute())
}

// execute is the statement that runs the prepared query.
func (q Query) execute() string {
	values := make([]string, len(q.Args(q.pending)))
	for i, arg := range q.Args(q.pending) {
		values[i] = sqlLiteral(arg)
	}
	return fmt.Sprintf("execute %s (%s)", q.Name, strings.Join(values, ", "))
}

// explain runs the prepared query and returns what EXPLAIN says about it.
func (q Query) explain(t testing.TB, conn *pgx.Conn) []byte {
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
		t.Fatalf("%s: %v", q.Name, err)
	}
	return raw
}

// Exec runs a statement.
func Exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
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
	case int16:
		return "smallint"
	case string:
		return "text"
	case *time.Time:
		return "timestamptz"
	}
	panic(fmt.Sprintf("%T", arg))
}

func sqlLiteral(arg any) string {
	switch v := reflect.ValueOf(arg); v.Kind() {
	case reflect.Slice:
		if v.IsNil() {
			return "null"
		}
		items := make([]string, v.Len())
		for i := range items {
			items[i] = fmt.Sprintf("%q", fmt.Sprint(v.Index(i).Interface()))
		}
		return "'{" + strings.Join(items, ",") + "}'"
	case reflect.Pointer:
		return "null" // no test has a time
	case reflect.String:
		return "'" + v.String() + "'"
	default:
		return fmt.Sprint(arg)
	}
}

// Pin checks the plans of queries on a log of a million events and 300,000 deliveries of a subscription, with an old snapshot held
// open, a hundred pending transactions, and a huge one that is still running. The plans are made while the tables are empty and
// nothing is known about them, used on, and made anew with statistics. pass is called once, to move the subscription's cursors past
// the first half of the log, while transactions are open.
func Pin(t *testing.T, db *pgtest.DB, subscription int32, queries []Query, pass func()) {
	t.Helper()
	ctx := context.Background()
	control := db.Conn(t)
	// Where deliveries come and go: those of another subscription, when statistics were taken, and none when plans are made.
	Exec(t, control, `
		with other as (insert into outbox.subscriptions (name, topics) values ('other', '{>}') returning id)
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at)
		select o.id, i, i % 64, 't', 'key-' || i, '1', '{}', now(), 'retrying', now() from other o, generate_series(1, 5000) i`)
	Exec(t, control, "analyze outbox.deliveries")
	Exec(t, control, "delete from outbox.deliveries")
	Exec(t, control, "vacuum outbox.deliveries") // which truncates it
	conns := make([]*pgx.Conn, len(queries))
	for i, q := range queries {
		conns[i] = db.Conn(t)
		q.prepare(t, conns[i])
	}

	// An old snapshot, and transactions that took ids before most of the log and ended after a reader had passed them.
	snapshotHolder := db.Conn(t)
	Exec(t, snapshotHolder, "begin isolation level repeatable read")
	Exec(t, snapshotHolder, "select count(*) from outbox.events")
	var pending []*pgx.Conn
	for range 50 {
		conn := db.Conn(t)
		Exec(t, conn, "begin")
		Exec(t, conn, "insert into outbox.events (topic, key, payload) values ('plan.pending', 'key-1', '1')")
		var xid int64
		if err := conn.QueryRow(ctx, "select pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
			t.Fatal(err)
		}
		pending = append(pending, conn)
		for i := range queries {
			queries[i].pending = append(queries[i].pending, xid)
		}
	}
	huge := db.Conn(t)
	Exec(t, huge, "begin")
	Exec(t, huge, "insert into outbox.events (topic, payload) select 'plan.huge', '1' from generate_series(1, 200000)")
	const fill = `insert into outbox.events (topic, key, payload)
		select 'plan.filled', 'key-' || i % 1000, jsonb_build_object('n', i, 'filler', repeat('x', 100)) from generate_series($1::integer, $2::integer) i`
	Exec(t, control, fill, 1, 500_000)
	pass() // so that the open transactions are pending
	for _, conn := range pending[:25] {
		Exec(t, conn, "commit")
	}
	Exec(t, control, fill, 500_001, 1_000_000)
	Exec(t, control, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at, attempt)
		select $1::integer, -i, i % 64, 't', case when i % 3 > 0 then 'key-' || i % 1000 end, '1'::jsonb, '{}'::jsonb, now(), 'retrying', now(), i / 100 % 2
		from generate_series(1, 100000) i
		union all
		select $1::integer, -i, 5, 't', 'long', '1'::jsonb, '{}'::jsonb, now(), 'retrying', now(), 0
		from generate_series(100001, 200000) i
		union all
		select $1::integer, -i, 5, 't', 'key-' || i, '1'::jsonb, '{}'::jsonb, now(), 'dead', now(), 10
		from generate_series(200001, 300000) i`, subscription)

	check := func(when string) {
		for i, q := range queries {
			raw := q.explain(t, conns[i])
			plan := Parse(t, raw)
			for _, scan := range plan.Scans() {
				big := strings.HasPrefix(scan, "events:") || strings.HasPrefix(scan, "held_keys: ") && !strings.Contains(scan, "ModifyTable") || strings.HasPrefix(scan, "deliveries: ") && !strings.Contains(scan, "ModifyTable")
				if big && !slices.Contains(q.Want, scan) {
					t.Errorf("%s %s: accesses %q, want only %q", q.Name, when, scan, q.Want)
				}
			}
			if pages := plan.Pages(); pages > q.Pages {
				t.Errorf("%s %s: looked at %d pages, at most %d expected\n%s", q.Name, when, pages, q.Pages, raw)
			}
		}
	}
	check("with the plan of an empty table")
	Exec(t, control, "analyze outbox.events")
	Exec(t, control, "analyze outbox.deliveries")
	check("with statistics")
	for _, conn := range append(pending, huge) {
		Exec(t, conn, "commit")
	}
}
