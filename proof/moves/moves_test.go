package moves_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestPgUpgrade upgrades a server, to the same version and to a newer one. Publishers go on at once, and cursors stay as they are.
func TestPgUpgrade(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"the same version", "a newer version"} {
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			old := pgtest.Server(t)
			clients(t, old, "pg_upgrade", "pg_dumpall", "psql", "vacuumdb")
			bin := ""
			if to == "a newer version" {
				bin = newer(t, old)
			}
			pool, l := prepare(t, old), &ledger{}
			fill(t, old, l)

			// A transaction that is prepared would be lost, so pg_upgrade refuses.
			if _, err := pgtest.TryUpgrade(t, old, bin); err == nil || !strings.Contains(err.Error(), "prepared transactions") {
				t.Fatalf("with a prepared transaction, pg_upgrade says: %v", err)
			}
			pool.Close()
			if err := old.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			pool = connect(t, old)
			execute(t, pool, `commit prepared 'moved'`)
			before, cursors := uids(t, pool), cursorsOf(t, pool)
			pool.Close()
			server := pgtest.Upgrade(t, old, bin)
			t.Logf("from PostgreSQL %d to %d", old.Version(), server.Version())

			pool = connect(t, server)
			publish(t, pool, "early", 5)
			inSavepoint(t, pool)
			m := move{old, server}
			l.refuses(t, pool, outbox.ErrForeignCluster)
			m.refused(t, `outbox migrate`, `as after pg_upgrade: run "outbox migrate --after pg_upgrade"`)
			m.do(t, "after pg_upgrade")
			if now := cursorsOf(t, pool); now != cursors {
				t.Errorf("cursors were %s, and are %s", cursors, now)
			}
			goOn(t, pool, l, before)
		})
	}
}

// cursorsOf returns all cursors as a text.
func cursorsOf(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return query[string](t, pool, `select string_agg(format('%s %s %s %s', l.lane, l.after_id, l.pending, l.late), '; ' order by l.lane) from outbox.lanes l`)
}

// TestRestore dumps a log while its worker runs, and restores it elsewhere: with its schema, and into one that was migrated.
func TestRestore(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"restore whole", "restore data"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			old := pgtest.Server(t)
			clients(t, old, "pg_dump", "pg_restore")
			pool, l := prepare(t, old), &ledger{}
			fill(t, old, l)
			before := uids(t, pool)
			server := pgtest.Server(t)
			m := move{old, server}
			m.do(t, what)

			pool = connect(t, server)
			publish(t, pool, "early", 5) // ids are where they belong
			l.refuses(t, pool, outbox.ErrForeignCluster)
			m.refused(t, `outbox migrate`, `as after a dump was restored: run "outbox migrate --after restore"`)
			m.refused(t, `outbox migrate --after pg_upgrade`, `this is not what pg_upgrade leaves`)
			// Publishers may go on, but one that does not end is in the way.
			slow := open(t, server, "early")
			m.refused(t, `outbox migrate --after restore`, fmt.Sprintf("transactions that published do not end: pid %d: commit them or roll them back", slow.Conn().PgConn().PID()))
			if err := slow.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.do(t, "after restore")
			if out, err := m.try(t, `outbox doctor`); err != nil {
				t.Errorf("doctor: %v\n%s", err, out)
			}
			goOn(t, pool, l, before)
		})
	}
}

// TestReplication moves a log by logical replication, while workers and publishers go on at the old server until the switch-over.
func TestReplication(t *testing.T) {
	t.Parallel()
	logical := map[string]string{"wal_level": "logical"}
	for name, test := range map[string]struct {
		to        func(t *testing.T, old *embeddedpg.Server) *embeddedpg.Server
		begin     string // the block that begins it
		afterward string // what is to happen at the new server before it begins
		says      string
		early     bool
	}{
		"to a newer version": {
			to: func(t *testing.T, old *embeddedpg.Server) *embeddedpg.Server {
				t.Helper()
				return pgtest.ServerOf(t, newer(t, old), nil)
			},
			begin: "replicate", early: true,
		},
		// A managed one is a copy of the files that follows: it has the identifier, the oids and, at first, the transaction ids.
		"blue/green": {
			to:    func(t *testing.T, old *embeddedpg.Server) *embeddedpg.Server { t.Helper(); return pgtest.Copy(t, old) },
			begin: "", early: true,
		},
		// Other programs may not let triggers fire.
		"without sequences": {
			to:    func(t *testing.T, _ *embeddedpg.Server) *embeddedpg.Server { t.Helper(); return pgtest.Server(t) },
			begin: "replicate", says: "its sequences were behind, and were raised",
			afterward: `alter table outbox.events disable trigger replicated; alter table outbox.lanes disable trigger replicated;
				alter table outbox.progress disable trigger replicated; alter table outbox.workers disable trigger replicated;
				alter table outbox.subscriptions disable trigger replicated`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old := pgtest.ServerOf(t, "", logical)
			clients(t, old, "pg_dump", "psql")
			pool, l := prepare(t, old), &ledger{}
			publish(t, pool, "settled0", 5)
			var m move
			if test.begin == "" {
				execute(t, pool, commands(t, "publication"))
				execute(t, pool, `select pg_create_logical_replication_slot('outbox_moves', 'pgoutput')`)
				m = move{old, test.to(t, old)}
				execute(t, connect(t, m.to), `create subscription outbox_moves connection '`+old.URL("postgres")+`' publication outbox_moves
					with (copy_data = false, create_slot = false, slot_name = outbox_moves)`)
			} else {
				m = move{old, test.to(t, old)}
				m.do(t, "replicate schema")
				if test.afterward != "" {
					execute(t, connect(t, m.to), test.afterward)
				}
				execute(t, pool, commands(t, "publication"))
				m.do(t, test.begin)
			}
			green := connect(t, m.to)
			// Until then, replication waits for every open transaction, and for prepared ones.
			eventually(t, green, "all tables are copied", `select not exists (select from pg_subscription_rel where srsubstate <> 'r')`)
			fill(t, old, l)

			// The switch-over. Publishers and workers of the old server are stopped.
			execute(t, pool, `commit prepared 'moved'`)
			before := uids(t, pool)
			eventually(t, pool, "all has arrived", commands(t, "arrived"))
			m.refused(t, `outbox migrate --after replication`, `logical replication still brings rows: stop the publishers at the old server, wait until all has arrived, and run: alter subscription outbox_moves disable`)
			m.do(t, "end replication")
			if test.early {
				publish(t, green, "early", 5)
			}
			l.refuses(t, green, outbox.ErrForeignCluster)
			m.refused(t, `outbox migrate`, `run "outbox migrate --after replication"`)
			m.refused(t, `outbox migrate --after pg_upgrade`, `this is not what pg_upgrade leaves`)
			if out := m.do(t, "after replication"); !strings.Contains(out, "was adopted") || strings.Contains(out, "raised") != (test.says != "") || !strings.Contains(out, test.says) {
				t.Errorf("migrate says %q", out)
			}
			if out, err := m.try(t, `outbox doctor`); (err != nil) != (test.afterward != "") {
				t.Errorf("doctor: %v\n%s", err, out)
			}
			goOn(t, green, l, before)
		})
	}
}

// TestCopy goes on at a copy of the files, which a restored snapshot of the disk is, too: there is nothing to do.
func TestCopy(t *testing.T) {
	t.Parallel()
	old := pgtest.Server(t)
	pool, l := prepare(t, old), &ledger{}
	fill(t, old, l)
	before := uids(t, pool)
	m := move{old, pgtest.Copy(t, old)}
	pool = connect(t, m.to)
	execute(t, pool, `commit prepared 'moved'`)
	if out, err := m.try(t, `outbox migrate --after restore`); err != nil || !strings.Contains(out, "nothing to adopt: it is from here, or was adopted before") {
		t.Errorf("migrate: %q, %v", out, err)
	}
	goOn(t, pool, l, before)
}

// TestStandby goes on at a standby that lacks the end of the log, which workers had handled. Ids come again there, and UIDs do not.
func TestStandby(t *testing.T) {
	t.Parallel()
	old := pgtest.Server(t)
	pool, l := prepare(t, old), &ledger{}
	fill(t, old, l)
	execute(t, pool, `commit prepared 'moved'`)
	m := move{old, pgtest.Standby(t, old)}
	lonely := connect(t, m.to)
	eventually(t, lonely, "the standby follows", `select coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)`,
		query[string](t, pool, `select pg_current_wal_insert_lsn()::text`))
	before := uids(t, pool)
	m.refused(t, `outbox migrate --set outbox`, `the server is a standby, which takes no writes: connect to the primary, or promote it`)
	l.refuses(t, lonely, engine.ErrStandby)

	execute(t, lonely, `alter system set primary_conninfo = ''`)
	execute(t, lonely, `select pg_reload_conf()`)
	eventually(t, lonely, "it is cut off", `select not exists (select from pg_stat_wal_receiver)`)
	known := len(l.all())
	stop := l.start(t, pool)
	publish(t, pool, "missed", 200)
	eventually(t, pool, "the old server goes on", passed)
	stop()
	missed := map[int64]string{}
	for uid, id := range uids(t, pool) {
		if _, kept := before[uid]; !kept {
			missed[id] = uid
		}
	}
	l.forget(known) // what the standby does not know to be settled

	execute(t, lonely, `select pg_promote()`)
	if out, err := m.try(t, `outbox migrate`); err != nil || strings.Contains(out, "adopted") {
		t.Errorf("migrate: %q, %v", out, err)
	}
	goOn(t, lonely, l, before)
	again := 0
	for uid, id := range uids(t, lonely) {
		if was, there := missed[id]; there {
			again++
			if was == uid {
				t.Errorf("event %d has the UID of another one", id)
			}
		}
	}
	if again == 0 {
		t.Error("no id came again")
	}
	t.Logf("%d of %d ids came again, for other events", again, len(missed))
}

// TestSetBack has a live worker find that ids were set back, and "truncate … restart identity" keep them.
func TestSetBack(t *testing.T) {
	t.Parallel()
	old := pgtest.Server(t)
	pool, l := prepare(t, old), &ledger{}
	fill(t, old, l)
	execute(t, pool, `rollback prepared 'moved'`)
	before := uids(t, pool)
	w := l.work(t, pool)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()
	eventually(t, pool, "it serves", `select count(*) = 64 from outbox.lanes l where l.owner is not null`)
	eventually(t, pool, "the cursors are at the end", passed) // it ends as by a crash, and what is not settled would come again
	execute(t, pool, `select setval('outbox.events_id_seq', 20)`)
	since := time.Now()
	select {
	case err := <-ended:
		t.Logf("it ended after %v", time.Since(since)) // how soon it notices, a test of package worker adds up
		if err == nil || !strings.Contains(err.Error(), `run "outbox migrate", which mends it`) {
			t.Errorf("the worker said %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the worker goes on")
	}
	publish(t, pool, "astray", 3)
	m := move{old, old}
	if out := m.do(t, "after setval"); !strings.Contains(out, "3 events published meanwhile got new ids") {
		t.Errorf("migrate says %q", out)
	}
	goOn(t, pool, l, before)

	// What "truncate" begins anew goes on, also in a session of a replica.
	last := query[int64](t, pool, `select max(e.id) from outbox.events e`)
	stop := l.start(t, pool)
	conn, err := pgx.Connect(t.Context(), old.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.PgConn().Exec(t.Context(), `set session_replication_role = replica; truncate outbox.events restart identity`).ReadAll(); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	known := len(l.all())
	publish(t, pool, "truncated", 5)
	if first := query[int64](t, pool, `select min(e.id) from outbox.events e`); first <= last {
		t.Errorf("after truncate, ids go on with %d after %d", first, last)
	}
	eventually(t, pool, "what came after is settled", settled)
	stop()
	if n := len(l.all()) - known; n != 5 {
		t.Errorf("%d of 5 events were handled after truncate", n)
	}
}
