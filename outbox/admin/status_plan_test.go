package admin

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/plantest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestStatusPlans pins what status costs where 200,000 dead letters lie beside a few deliveries that are not finished, and where workers have
// appended 100,000 rows of progress, the last one of one of them long ago: it reads neither table.
func TestStatusPlans(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	conn := db.Conn(t)
	sub, err := engine.Subscribe(ctx, db.Pool, "s", []string{">"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	worker, err := engine.Join(ctx, conn, "w", true, time.Minute, []int32{sub.ID})
	if err != nil {
		t.Fatal(err)
	}
	idle, err := engine.Join(ctx, db.Conn(t), "idle", true, time.Minute, []int32{sub.ID})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"deliveries", "progress"} {
		plantest.Exec(t, conn, `alter table outbox.`+table+` set (autovacuum_enabled = off)`)
	}
	plantest.Exec(t, conn, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at, attempt, owner)
		select $1::integer, i, i % 64, 't', case when i % 2 = 0 then 'key-' || i / 10 end, to_json(repeat('x', 300)), '{}', now(),
		       case when i <= 200000 then 'dead' when i <= 200010 then 'skipped' when i <= 200310 then 'retrying' else 'running' end, now(), 3,
		       case when i > 200310 then $2::bigint end
		from generate_series(1, 200320) i`, sub.ID, worker)
	plantest.Exec(t, conn, `
		insert into outbox.progress (subscription_id, owner, lanes, after_ids, pending, late, late_after_id, handled, handled_at)
		select $1, case when i = 1 then $3::bigint else $2 end, case when i = 1 then '{2,3}'::smallint[] else '{1}' end, array[i, i], '{}', '{}', 0, i, now()
		from generate_series(1, 100000) i`, sub.ID, worker, idle)
	// Lane 4 is the idle one's since a moment ago: no row lists it.
	plantest.Exec(t, conn, `update outbox.lanes set owner = case when lane = 1 then $1::bigint else $2 end where lane in (1, 2, 3, 4)`, worker, idle)
	for _, when := range []string{"before there are statistics", "with statistics"} {
		for _, q := range []struct {
			name, sql string
			args      []any
			pages     int
		}{
			// In the index: the heap's 12,000 pages are passed where vacuum has seen them.
			{"states", statesSQL, []any{sub.ID}, 2000},
			{"blocked", blockedSQL, []any{sub.ID}, 1000},
			{"unfinished", unfinishedSQL, []any{sub.ID}, 1000},
			{"handled", engine.HandledSQL, nil, 100},
			{"mark", markSQL, nil, 100},
			{"cursors", engine.CursorsSQL, nil, 100},
		} {
			if when != "with statistics" && q.name == "states" {
				continue // dead letters that vacuum has not seen are counted one by one
			}
			var raw []byte
			if err := conn.QueryRow(ctx, "explain (analyze, buffers, format json) "+q.sql, q.args...).Scan(&raw); err != nil {
				t.Fatalf("%s: %v", q.name, err)
			}
			plan := plantest.Parse(t, raw)
			for _, scan := range []string{"deliveries: Seq Scan", "progress: Seq Scan"} {
				if slices.Contains(plan.Scans(), scan) {
					t.Errorf("%s %s: reads all of a table: %s", q.name, when, scan)
				}
			}
			if pages := plan.Pages(); pages > q.pages {
				t.Errorf("%s %s: looked at %d pages, at most %d expected\n%s", q.name, when, pages, q.pages, raw)
			}
		}
		vacuum(t, conn, "outbox.deliveries")
		vacuum(t, conn, "outbox.progress")
	}
	status, err := GetStatus(ctx, db.Pool)
	if err != nil {
		t.Fatal(err)
	}
	counts := status.Subscriptions[0].Deliveries
	if counts["dead"] != 200_000 || counts["skipped"] != 10 || counts["running"] != 10 || counts["retrying"]+counts[Blocked] != 300 || counts[Blocked] != 119 {
		t.Errorf("counted %v", counts)
	}
}

// vacuum vacuums a table until it has seen all of it: a snapshot of the moment, as that of a backend that starts, has it leave out pages.
func vacuum(t *testing.T, conn *pgx.Conn, table string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		plantest.Exec(t, conn, "vacuum analyze "+table)
		var all bool
		if err := conn.QueryRow(t.Context(), `select relallvisible >= relpages from pg_class where oid = $1::text::regclass`, table).Scan(&all); err != nil {
			t.Fatal(err)
		}
		if all {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("vacuum does not see all of %s", table)
		}
	}
}
