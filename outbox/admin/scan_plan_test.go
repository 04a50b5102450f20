package admin

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/plantest"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestScanPlans pins how operators' queries reach a log of 300,000 events, a third of which has been deleted and not vacuumed
// under an old snapshot: by lane and id, in a bounded number of pages, and in order, without sorting what is not looked
// at. It does not run beside other tests, as TestPlans.
func TestScanPlans(t *testing.T) {
	ctx := t.Context()
	db := pgtest.New(t)
	conn := db.Conn(t)
	holder, plain := db.Conn(t), db.Conn(t)
	plantest.Exec(t, conn, `alter table outbox.events set (autovacuum_enabled = off)`)
	plantest.Exec(t, conn, `
		insert into outbox.events (topic, key, payload, published_at)
		select 'a.' || i % 10, 'k' || i % 1000, jsonb_build_object('n', i, 'filler', repeat('x', 100)), '2026-01-01'::timestamptz + i * interval '1 s'
		from generate_series(1, 300000) i`)
	plantest.Exec(t, holder, `begin isolation level repeatable read`)
	plantest.Exec(t, holder, `select count(*) from outbox.events`)
	plantest.Exec(t, conn, `delete from outbox.events where id <= 100000`)
	plantest.Exec(t, conn, `update outbox.trimmed set up_to = 100000`)

	at := func(n int) time.Time {
		return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Second)
	}
	var tx pgx.Tx
	explain := func(name, when string, pages int, sql string, args ...any) {
		t.Helper()
		var raw []byte
		var db outbox.DB = tx
		if name == "oldest" || name == "event" { // not scanning
			db = plain
		}
		if err := db.QueryRow(ctx, "explain (analyze, buffers, format json) "+sql, args...).Scan(&raw); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		plan := plantest.Parse(t, raw)
		for _, scan := range plan.Scans() {
			if strings.HasPrefix(scan, "events:") && scan != "events: Index Scan events_lane_id" && scan != "events: ModifyTable" {
				t.Errorf("%s %s: accesses %q", name, when, scan)
			}
		}
		if looked := plan.Pages(); looked > pages {
			t.Errorf("%s %s: looked at %d pages, at most %d expected\n%s", name, when, looked, pages, raw)
		}
	}
	var err error
	if tx, err = conn.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, engine.ScanSetup); err != nil {
		t.Fatal(err)
	}
	plantest.Exec(t, plain, `insert into outbox.subscriptions (name, topics) values ('s', '{>}')`)
	plantest.Exec(t, plain, `insert into outbox.lanes (subscription_id, lane, after_id) select 1, l, 300000 from generate_series(0, 63) l`)
	for _, when := range []string{"without statistics", "with statistics"} {
		explain("event", when, 64*6, eventSQL, int64(250_000), engine.Lanes)
		explain("since", when, 64*30*6+64*2*engine.LookBack, engine.FirstSinceSQL, at(250_000), engine.LookBack)
		explain("expired", when, 64*9, engine.ExpiredSQL, time.Hour, false)
		explain("oldest", when, 64*8, oldestSQL)
		for name, c := range map[string]struct {
			filter EventFilter
			newest bool
			limit  int
			pages  int
		}{
			"page":          {EventFilter{}, false, 100, 64*6 + 100},
			"newest":        {EventFilter{}, true, 100, 64*6 + 100},
			"key":           {EventFilter{Key: "k17"}, false, 100, 30_000},
			"rare":          {EventFilter{Topic: "b"}, false, 100, 64*6 + scanRows*2},
			"rare, newest":  {EventFilter{Payload: json.RawMessage(`{"n": 0}`)}, true, 100, 64*6 + scanRows*2},
			"a time, a few": {EventFilter{Since: at(200_000), Topic: "a.3"}, false, 100, 64*6 + 2000},
		} {
			s, err := newScan(ctx, tx, c.filter)
			if err != nil {
				t.Fatal(err)
			}
			if !c.newest {
				explain(name+", replayed", when, c.pages*2+5000, s.replaySQL(), s.args(s.above, s.upTo, scanRows, int32(1), `^(a\..+)$`, c.limit)...)
				explain(name+", counted", when, 64*8+3*lagScan, s.countSQL(), s.args(s.above, s.upTo, lagScan, int32(1), `^(a\..+)$`, "")...)
			}
			explain(name, when, c.pages, s.pageSQL(c.newest), s.args(s.above, s.upTo, scanRows, c.limit, PageBytes)...)
		}
		plantest.Exec(t, plain, `analyze outbox.events`)
	}
	explain("trim", "with statistics", 20_000, engine.TrimSQL, time.Hour, int16(5), 2000, false)
	plantest.Exec(t, holder, `commit`)
}
