package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestBehind lets the ids of events go back below the cursors, in the ways in which that happens, and mends it: what was published
// meanwhile is read, in its order, and nothing else again.
func TestBehind(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		goBack string
		n      int // events published below the cursors, before anybody notices
		more   int // and afterwards
	}{
		"set back, and nothing published":  {`select setval('outbox.events_id_seq', 5)`, 0, 0},
		"set back":                         {`select setval('outbox.events_id_seq', 95)`, 3, 1},
		"set back, and caught up":          {`select setval('outbox.events_id_seq', 95)`, 2, 60},
		"begun anew, after the end went":   {`delete from outbox.events where id > 80; alter sequence outbox.events_id_seq restart`, 4, 3},
		"all gone, as unlogged in a crash": {`delete from outbox.events; alter sequence outbox.events_id_seq restart`, 7, 2},
		"behind its table, never used":     {`alter sequence outbox.events_id_seq restart with 20`, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := pgtest.New(t)
			m, worker := enginetest.Member(t, db, enginetest.Subscribe(t, db, "a"))
			for i := range 100 {
				enginetest.Publish(t, db.Pool, fmt.Sprintf("old%d", i))
			}
			enginetest.Settle(t, m, 100)
			if err := engine.CheckLog(ctx, db.Pool); err != nil {
				t.Fatal(err)
			}
			// Not over the pool's prepared statements: these are several.
			if _, err := db.Conn(t).PgConn().Exec(ctx, test.goBack).ReadAll(); err != nil {
				t.Fatal(err)
			}
			var want []string
			publishNew := func(n int) {
				for range n {
					key := fmt.Sprintf("new%d", len(want)%7)
					want = append(want, key)
					enginetest.Publish(t, db.Pool, key)
				}
			}
			publishNew(test.n)
			pulse, err := engine.Beat(ctx, db.Conn(t), worker, false)
			if err != nil || !m.Unread(pulse) {
				t.Errorf("the heartbeat passes it: %v", err)
			}
			if w, err := m.Read(ctx, 100); !errors.Is(err, outbox.ErrLogBehind) {
				t.Fatalf("the read returns %v, %v; want ErrLogBehind", w, err)
			}
			if err := engine.CheckLog(ctx, db.Pool); !errors.Is(err, outbox.ErrLogBehind) {
				t.Fatalf("got %v, want ErrLogBehind", err)
			}
			publishNew(test.more)
			if err := engine.CheckLog(ctx, db.Pool); !errors.Is(err, outbox.ErrLogBehind) {
				t.Errorf("with the ids beyond the cursors again: %v, want ErrLogBehind", err)
			}

			for _, mended := range []engine.Mended{{Raised: true, Published: int64(len(want))}, {}} {
				got, err := engine.Mend(ctx, db.Conn(t), "")
				first := got.FirstID
				if got.FirstID = 0; err != nil || got != mended || (first > 100) != (got.Published > 0) {
					t.Fatalf("mended %+v (from %d on), %v; want %+v", got, first, err, mended)
				}
			}
			if err := engine.CheckLog(ctx, db.Pool); err != nil {
				t.Fatal(err)
			}
			if _, err := engine.Evict(ctx, db.Conn(t), worker, "test"); err != nil {
				t.Fatal(err)
			}
			m, _ = enginetest.Member(t, db, enginetest.Subscribe(t, db, "a"))
			var got []string
			for _, e := range enginetest.Settle(t, m, len(want)) {
				got = append(got, e.Key)
			}
			if !slices.Equal(got, want) {
				t.Errorf("read %v, want %v", got, want)
			}
		})
	}
}

// TestTruncate truncates the log as test suites do: ids go on, and no event is lost.
func TestTruncate(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	m, _ := enginetest.Member(t, db, enginetest.Subscribe(t, db, "a"))
	for _, sql := range []string{
		`truncate outbox.events restart identity`, // of an empty log
		`truncate outbox.events restart identity`,
		`truncate outbox.events`,
	} {
		if _, err := db.Pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			enginetest.Publish(t, db.Pool, fmt.Sprint(i))
		}
		enginetest.Settle(t, m, 10)
	}
	if err := engine.CheckLog(ctx, db.Pool); err != nil {
		t.Error(err)
	}
}

// Every sequence counts: progress that sorts below older rows, and ids of workers and subscriptions that have owned rows before.
func TestOtherSequencesBehind(t *testing.T) {
	t.Parallel()
	for _, sequence := range []string{"workers_id_seq", "progress_seq_seq", "subscriptions_id_seq"} {
		t.Run(sequence, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := pgtest.New(t)
			s := enginetest.Subscribe(t, db, "a")
			enginetest.Publish(t, db.Pool, "k")
			m, _ := enginetest.Member(t, db, s)
			enginetest.Settle(t, m, 1)
			if _, err := db.Pool.Exec(ctx, `alter sequence outbox.`+sequence+` restart`); err != nil {
				t.Fatal(err)
			}
			if err := engine.CheckLog(ctx, db.Pool); !errors.Is(err, outbox.ErrLogBehind) {
				t.Errorf("got %v, want ErrLogBehind", err)
			}
			if got, err := engine.Mend(ctx, db.Conn(t), ""); err != nil || got != (engine.Mended{Raised: true}) {
				t.Errorf("mended %+v, %v", got, err)
			}
			if err := engine.CheckLog(ctx, db.Pool); err != nil {
				t.Error(err)
			}
			enginetest.Settle(t, m, 0)
		})
	}
}

// TestForeign has the signs of transaction ids from elsewhere, one by one.
func TestForeign(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"another cluster":          `update outbox.cluster set system_identifier = system_identifier + 1`,
		"a dump in a copy":         `update outbox.cluster set relations[1] = 1`,
		"a dump in a copy, a type": `update outbox.cluster set relations[2] = 1`,
		"data of another outbox":   `insert into outbox.cluster (system_identifier, relations) select system_identifier, relations from outbox.cluster`,
		"nothing known":            `delete from outbox.cluster`,
		"ids that are yet to come": `set session_replication_role = replica; insert into outbox.events (xid, id, topic, payload) overriding system value values ('1000000000', 1, 'a', '1'); select setval('outbox.events_id_seq', 1)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := pgtest.New(t)
			if _, err := db.Conn(t).PgConn().Exec(ctx, sql).ReadAll(); err != nil {
				t.Fatal(err)
			}
			if err := engine.CheckLog(ctx, db.Pool); !errors.Is(err, outbox.ErrForeignCluster) {
				t.Errorf("got %v, want ErrForeignCluster", err)
			}
			if got, err := engine.Mend(ctx, db.Conn(t), engine.Restore); err != nil || got != (engine.Mended{Adopted: true}) {
				t.Errorf("mended %+v, %v", got, err)
			}
			if err := engine.CheckLog(ctx, db.Pool); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReplicated has rows arrive as by logical replication: sequences follow them, and the log is from elsewhere. What is published here in
// such a session is not.
func TestReplicated(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	conn := db.Conn(t)
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(`set session_replication_role = replica`)
	enginetest.Publish(t, conn, "here")
	if err := engine.CheckLog(ctx, db.Pool); err != nil {
		t.Fatalf("after a publisher of here: %v", err)
	}
	for _, sql := range []string{
		`insert into outbox.subscriptions (id, name, topics) overriding system value values (7, 's', '{a}')`,
		`insert into outbox.workers (id, name, direct, lease) overriding system value values (30, 'w', false, '1 h')`,
		`insert into outbox.lanes (subscription_id, lane, after_id) values (7, 0, 40), (7, 1, 41)`,
		`update outbox.lanes set after_id = 44 where lane = 1`,
		`insert into outbox.progress (seq, subscription_id, owner, lanes, after_ids, pending, late, late_after_id) overriding system value
		 values (20, 7, 30, '{0, 1}', '{60, 50}', '{}', '{}', 0)`,
	} {
		exec(sql)
	}
	sequences := func(want string) {
		t.Helper()
		var got string
		if err := db.Pool.QueryRow(ctx, `
			select concat_ws(' ', pg_sequence_last_value('outbox.events_id_seq'), pg_sequence_last_value('outbox.subscriptions_id_seq'),
			                 pg_sequence_last_value('outbox.workers_id_seq'), pg_sequence_last_value('outbox.progress_seq_seq'))`).Scan(&got); err != nil || got != want {
			t.Errorf("sequences are at %s, %v; want %s", got, err, want)
		}
	}
	sequences("60 7 30 20")
	exec(`insert into outbox.events (xid, id, topic, payload) overriding system value values ('5', 80, 'a', '1'), ('5', 70, 'a', '1')`)
	sequences("80 7 30 20")
	if err := engine.CheckLog(ctx, db.Pool); !errors.Is(err, outbox.ErrForeignCluster) {
		t.Errorf("got %v, want ErrForeignCluster", err)
	}
	if moved, err := engine.HowMoved(ctx, db.Pool); err != nil || moved.Likely != engine.Replication {
		t.Errorf("it looks like %+v, %v", moved, err)
	}
}

// The check is of what others can see: a transaction that publishes may ask it.
func TestCheckLogWhilePublishing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background()) //nolint:errcheck // nothing to keep
	enginetest.Publish(t, tx, "k")
	if err := engine.CheckLog(t.Context(), tx); err != nil {
		t.Error(err)
	}
}

// TestRowSecurity hides each table from workers: no read passes anything, and the check names the table.
func TestRowSecurity(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := pgtest.Server(t) // of its own: roles are the server's
	owner, err := pgxpool.New(ctx, server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(owner.Close)
	if err := owner.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return apply.Up(ctx, c.Conn(), migrations.Outbox) }); err != nil {
		t.Fatal(err)
	}
	if _, err := owner.Exec(ctx, `
		create role worker login;
		grant usage on schema outbox to worker;
		grant all on all tables in schema outbox to worker;
		grant all on all sequences in schema outbox to worker`); err != nil {
		t.Fatal(err)
	}
	pool := asRole(t, server.URL("postgres"), "worker")
	s, err := engine.Subscribe(ctx, owner, "s", []string{"a"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	id, err := engine.Join(ctx, conn.Conn(), "w", false, 30*time.Second, []int32{s.ID})
	if err != nil {
		t.Fatal(err)
	}
	m := engine.NewMember(conn.Conn(), id, s)
	if _, err := m.Claim(ctx, engine.Lanes); err != nil {
		t.Fatal(err)
	}
	rows, _ := owner.Query(ctx, `select tablename::text from pg_tables where schemaname = 'outbox'`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 9 {
		t.Fatal(tables, err)
	}
	for _, table := range tables {
		if _, err := owner.Exec(ctx, `alter table outbox.`+table+` enable row level security`); err != nil {
			t.Fatal(err)
		}
		err := engine.CheckLog(ctx, pool)
		if !errors.Is(err, outbox.ErrRowSecurity) || !strings.Contains(err.Error(), "outbox."+table) || strings.ContainsRune(err.Error(), '\n') {
			t.Errorf("of %s: %v, want ErrRowSecurity", table, err)
		}
		if table == "events" {
			enginetest.Publish(t, owner, "k")
			if w, err := m.Read(ctx, 100); err == nil {
				t.Errorf("the read passes what it cannot see: %+v", w)
			}
		}
		if err := engine.CheckLog(ctx, owner); err != nil {
			t.Errorf("of %s, for the owner: %v", table, err)
		}
		if _, err := owner.Exec(ctx, `alter table outbox.`+table+` disable row level security`); err != nil {
			t.Fatal(err)
		}
	}
	if err := engine.CheckLog(ctx, pool); err != nil {
		t.Error(err)
	}
}

// asRole returns a pool of sessions that have another role from their beginning.
func asRole(t *testing.T, url, role string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.RuntimeParams["role"] = role
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
