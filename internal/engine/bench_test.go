package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// BenchmarkInsert says what the parts of an event's table cost the server, in a transaction that is never committed: one insert of
// 160 bytes of JSON after the other, without a round trip between. Each case leaves out one thing more.
func BenchmarkInsert(b *testing.B) {
	const inserts = 10_000
	table, changes := "outbox.events", ""
	for _, c := range []struct{ name, change string }{
		{"event", ""},
		{"no-doorbell", "drop trigger doorbell on outbox.events;"},
		{"no-index-by-xid", "alter table outbox.events replica identity default; drop index outbox.events_xid_id;"},
		{"no-lane", "alter table outbox.events alter column lane drop expression, alter column lane set default 1;"},
		{"plain-row", `create table public.plain (
			id bigint primary key generated always as identity, topic text not null, key text, payload json not null, created_at timestamptz not null default now());`},
	} {
		if changes += c.change; c.name == "plain-row" {
			table = "public.plain"
		}
		b.Run(c.name, func(b *testing.B) {
			conn := pgtest.New(b).Conn(b)
			benchExec(b, conn, changes)
			loop := fmt.Sprintf(`do $$ begin for i in 1..%d loop
				insert into %s (topic, key, payload) values ('bench.events', 'key-' || i %% 1000, json_build_object('n', i, 'note', repeat('x', 140)));
			end loop; end $$`, inserts, table)
			var took []time.Duration
			for b.Loop() {
				benchExec(b, conn, "begin")
				start := time.Now()
				benchExec(b, conn, loop)
				took = append(took, time.Since(start))
				benchExec(b, conn, "rollback")
			}
			report(b, took, inserts)
		})
	}
}

// BenchmarkRows says what the columns of a window cost the server and pgx together, which take turns here: first of 1,000,000 events of 1,000 keys
// with 160 bytes of JSON, in windows of 80 rows from each of 64 lanes, then without lanes.
func BenchmarkRows(b *testing.B) {
	const rows = 200_000
	db := pgtest.New(b)
	conn := db.Conn(b)
	benchExec(b, conn, `
		insert into outbox.events (topic, key, payload)
		select 'bench.events', 'key-' || i % 1000, json_build_object('n', i, 'note', repeat('x', 140)) from generate_series(1, 1000000) i`)
	benchExec(b, conn, "vacuum (analyze) outbox.events")
	benchExec(b, conn, probeSetup)
	const lanes = `
		select %s
		from generate_series(0, 63) l
		cross join lateral (select e.* from outbox.events e where e.lane = l::smallint and e.id > $1 order by e.id limit 80) e`
	for _, c := range []struct{ name, sql string }{
		{"index", fmt.Sprintf(lanes, "e.id, e.lane")},
		{"index-and-heap", fmt.Sprintf(lanes, "e.id, e.lane, e.published_at")},
		{"all-but-payload", fmt.Sprintf(lanes, "e.id, e.lane, e.published_at, e.topic, e.key, e.headers")},
		{"all", fmt.Sprintf(lanes, "e.id, e.lane, e.published_at, e.topic, e.key, e.headers, e.payload")},
		{"all,by-no-order", "select e.id, e.lane, e.published_at, e.topic, e.key, e.headers, e.payload from outbox.events e where e.id > $1 limit 5120"},
	} {
		b.Run(c.name, func(b *testing.B) {
			if c.name == "all,by-no-order" {
				benchExec(b, conn, "set enable_seqscan = on; set enable_indexscan = off")
			}
			var took []time.Duration
			for b.Loop() {
				start, read := time.Now(), 0
				for after := 0; read < rows; after += 4000 {
					found, _ := conn.Query(b.Context(), c.sql, after)
					for found.Next() {
						read++
					}
					if err := found.Err(); err != nil {
						b.Fatal(err)
					}
				}
				took = append(took, time.Since(start)*rows/time.Duration(read))
			}
			report(b, took, rows)
		})
	}
}

func report(b *testing.B, took []time.Duration, n int) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/float64(n)/1000, "µs/row")
}

func benchExec(b *testing.B, conn *pgx.Conn, sql string) {
	b.Helper()
	if _, err := conn.Exec(b.Context(), sql); err != nil {
		b.Fatal(err)
	}
}
