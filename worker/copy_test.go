package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// TestCopied copies a log to another server while workers run, and goes on there: with files copied under load, with a
// standby that is promoted, and with a dump. The copy has all that a log can have: a backlog; transactions that cursors wait
// for, of which some have committed, some are prepared and some still run, and so are not in the copy; and deliveries that are
// retried, run, wait behind their key, or are dead, of a worker that is not there.
//
// Nothing is lost, skipped or repeated of what was settled when the copy was made.
func TestCopied(t *testing.T) {
	t.Parallel()
	for name, copied := range map[string]func(*testing.T, *embeddedpg.Server) *embeddedpg.Server{
		"files":   func(t *testing.T, s *embeddedpg.Server) *embeddedpg.Server { t.Helper(); return pgtest.Copy(t, s) },
		"standby": promoted,
		"dump":    dumped,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.Server(t)
			pool := migrated(t, server)
			createCounts(t, pool)

			// Before there are workers: what is published while the doorbell is armed cannot be prepared.
			late, lost, prepared := openWith(t, server, "late"), openWith(t, server, "lost"), openWith(t, server, "prepared")
			if _, err := prepared.Exec(t.Context(), `prepare transaction 'copied'`); err != nil {
				t.Fatal(err)
			}
			calls := spawn(t, processConfig{URL: server.URL("postgres"), Subscription: "calls", Name: "calls", Fates: true, Lease: time.Minute})
			counts := spawn(t, processConfig{URL: server.URL("postgres"), Subscription: "counts", Name: "counts", Count: true, Lease: time.Minute})
			for _, key := range []string{"dead", "fails", "slow"} {
				publish(t, pool, key, 0, 3)
			}
			stop := make(chan struct{})
			_, publishing := publishLoad(server.URL("postgres"), 4, 10*time.Millisecond, stop)
			eventually(t, 30*time.Second, "there is some of everything", func() bool {
				return len(calls.handled()) > 300 && everyTrouble(t, pool, lost)
			})
			// One worker is in the middle of things, and what follows is its backlog. The other one goes on.
			calls.Signal(syscall.SIGSTOP)
			if err := late.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			publish(t, pool, "backlog", 0, 100)

			other := copied(t, server)
			close(stop)
			publishing.Wait()
			calls.Signal(syscall.SIGKILL)
			counts.Signal(syscall.SIGKILL)
			if err := lost.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			goOn(t, connect(t, other), name == "dump")
		})
	}
}

// openWith returns a transaction that has published events of a key.
func openWith(t *testing.T, server *embeddedpg.Server, key string) pgx.Tx {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	publish(t, tx, key, 0, 3)
	return tx
}

// everyTrouble reports whether a cursor waits for a transaction, and there are deliveries of all kinds.
func everyTrouble(t *testing.T, pool *pgxpool.Pool, tx pgx.Tx) (all bool) {
	t.Helper()
	var xid int64
	if err := tx.QueryRow(t.Context(), `select pg_current_xact_id()::text::bigint`).Scan(&xid); err != nil {
		t.Fatal(err)
	}
	err := pool.QueryRow(t.Context(), `
		with d as (select d.* from outbox.deliveries d join outbox.subscriptions s on s.id = d.subscription_id where s.name = 'calls')
		select (select count(*) from outbox.subscriptions s
		        where exists (select from outbox.progress p where p.subscription_id = s.id and p.pending @> $1::bigint)) = 2
		   and exists (select from d where d.state = 'dead')
		   and exists (select from d where d.state = 'retrying' and d.attempt > 1)
		   and exists (select from d where d.state = 'retrying' and d.attempt = 0 and d.key = 'fails')
		   and exists (select from d where d.state = 'running' and d.key = 'slow' and d.owner is not null)`, xid).Scan(&all)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func connect(t *testing.T, server *embeddedpg.Server) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// goOn runs workers on a copy of what TestCopied made, and checks what they do.
func goOn(t *testing.T, pool *pgxpool.Pool, foreign bool) {
	t.Helper()
	if !foreign {
		if _, err := pool.Exec(t.Context(), `commit prepared 'copied'`); err != nil {
			t.Fatal(err)
		}
	}
	settled := settledEvents(t, pool, "calls")
	l := newLedger()
	crew := func() *worker.Worker {
		w, err := worker.New(pool, worker.Config{Logger: testLogger(t)})
		if err != nil {
			t.Fatal(err)
		}
		if err := worker.Handle(w, worker.Subscription{Name: "calls"}, record(l)); err != nil {
			t.Fatal(err)
		}
		if err := worker.HandleBatchTx(w, worker.Subscription{Name: "counts"}, count); err != nil {
			t.Fatal(err)
		}
		return w
	}
	if foreign {
		if err := crew().Run(t.Context()); !errors.Is(err, outbox.ErrForeignCluster) {
			t.Fatalf("on the copy, workers say %v; want ErrForeignCluster", err)
		}
		err := pool.AcquireFunc(t.Context(), func(c *pgxpool.Conn) error {
			mended, err := engine.Mend(t.Context(), c.Conn(), engine.Restore)
			if err == nil && !mended.Adopted {
				err = errors.New("there was nothing to adopt")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	open := openAgain(t, pool, foreign)
	runUntilStopped(t, crew())
	for n := range 3 {
		publish(t, pool, "backlog", 100+n, 101+n)
	}
	publish(t, pool, "", 0, 10)
	eventually(t, 30*time.Second, "the open transaction is passed", func() bool { return settledLag(t, pool) })
	if err := open.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}

	rows, _ := pool.Query(t.Context(), `
		select e.id, coalesce(e.key, '') from outbox.events e
		where not exists (select from outbox.deliveries d where d.event_id = e.id and d.state = 'dead')`)
	want := map[int64]bool{}
	keys := map[string]int{}
	var (
		id  int64
		key string
	)
	if _, err := pgx.ForEachRow(rows, []any{&id, &key}, func() error {
		if !settled[id] {
			want[id] = true
			keys[key]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	has := map[string]int{"late": 3, "again": 3, "prepared": 3, "fails": 3, "slow": 3, "backlog": 103, "": 10}
	if foreign {
		delete(has, "prepared")
	}
	for key, n := range has {
		if keys[key] != n {
			t.Errorf("the copy has %d unsettled events of %q, want %d", keys[key], key, n)
		}
	}
	l.waitFor(t, len(want))
	eventually(t, 30*time.Second, "all is settled", func() bool { return settledAll(t, pool) })
	checkCounts(t, pool)

	last := map[string]int64{}
	for _, e := range l.all() {
		switch {
		case !want[e.ID]:
			t.Errorf("event %d of %q was handled again, or is not in the copy (%t: settled)", e.ID, e.Key, settled[e.ID])
		case e.Key != "" && e.ID < last[e.Key]:
			t.Errorf("event %d of %q came after event %d", e.ID, e.Key, last[e.Key])
		}
		last[e.Key] = e.ID
		delete(want, e.ID)
	}
	if len(want) > 0 {
		t.Errorf("%d events are lost: %v", len(want), want)
	}
	t.Logf("%d events were settled in the copy, and %d were left", len(settled), len(l.all()))
	if len(settled) < 100 {
		t.Errorf("only %d events were settled", len(settled))
	}
}

// openAgain returns a transaction that has published. In a foreign log, its id is that of a transaction which published there, and
// which readers must not take for this one.
func openAgain(t *testing.T, pool *pgxpool.Pool, foreign bool) pgx.Tx {
	t.Helper()
	for range 10_000 {
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
		found := !foreign
		if foreign {
			err := tx.QueryRow(t.Context(), `select exists (select from outbox.events e where e.xid = pg_current_xact_id())`).Scan(&found)
			if err != nil {
				t.Fatal(err)
			}
		}
		if found {
			publish(t, tx, "again", 0, 3)
			return tx
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("no transaction id of the log comes again")
	return nil
}

// settledEvents returns the events that a subscription is done with, or will be: it says what a cursor means, in one statement.
func settledEvents(t *testing.T, pool *pgxpool.Pool, subscription string) map[int64]bool {
	t.Helper()
	rows, _ := pool.Query(t.Context(), `
		select e.id
		from outbox.subscriptions s
		join outbox.lanes l on l.subscription_id = s.id
		left join lateral (
		    select u.after_id, p.pending, p.late, p.late_after_id
		    from outbox.progress p, unnest(p.lanes, p.after_ids) as u (lane, after_id)
		    where p.owner = l.owner and p.subscription_id = s.id and u.lane = l.lane
		    order by p.seq desc limit 1
		) p on true
		cross join lateral (
		    select case when p.after_id is null then l.after_id else p.after_id end as after_id,
		           case when p.after_id is null then l.pending else p.pending end as pending,
		           case when p.after_id is null then l.late else p.late end as late,
		           case when p.after_id is null then l.late_after_id else p.late_after_id end as late_after_id
		) c
		join outbox.events e on e.lane = l.lane and e.id <= c.after_id
		where s.name = $1 and not c.pending @> e.xid::text::bigint and not (c.late @> e.xid::text::bigint and e.id > c.late_after_id)
		  and not exists (select from outbox.deliveries d where d.subscription_id = s.id and d.event_id = e.id)`, subscription)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		t.Fatal(err)
	}
	settled := map[int64]bool{}
	for _, id := range ids {
		settled[id] = true
	}
	return settled
}

// promoted has a standby follow a server, and then go on alone.
func promoted(t *testing.T, server *embeddedpg.Server) *embeddedpg.Server {
	t.Helper()
	standby := pgtest.Standby(t, server)
	follow(t, server, standby)
	promote(t, standby)
	return standby
}

// follow waits until the standby has what the server has now.
func follow(t *testing.T, server, standby *embeddedpg.Server) {
	t.Helper()
	var at string
	if err := connect(t, server).QueryRow(t.Context(), `select pg_current_wal_insert_lsn()::text`).Scan(&at); err != nil {
		t.Fatal(err)
	}
	pool := connect(t, standby)
	eventually(t, 30*time.Second, "the standby follows", func() (there bool) {
		err := pool.QueryRow(t.Context(), `select coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)`, at).Scan(&there)
		return err == nil && there
	})
}

func promote(t *testing.T, standby *embeddedpg.Server) {
	t.Helper()
	if _, err := connect(t, standby).Exec(t.Context(), `select pg_promote()`); err != nil {
		t.Fatal(err)
	}
}

// dumped restores a dump in a new cluster. The packages from npm have no pg_dump: then it copies the tables of one snapshot
// to a new schema, which is what a dump does.
func dumped(t *testing.T, server *embeddedpg.Server) *embeddedpg.Server {
	t.Helper()
	other := pgtest.Server(t)
	var bin string
	if err := connect(t, server).QueryRow(t.Context(), `select setting from pg_config where name = 'BINDIR'`).Scan(&bin); err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"pg_dump", "pg_restore"} {
		if _, err := os.Stat(filepath.Join(bin, tool)); err != nil {
			t.Logf("there is no %s in %s: copying the tables instead", tool, bin)
			copyTables(t, server, other)
			return other
		}
	}
	dump := filepath.Join(t.TempDir(), "dump")
	for _, args := range [][]string{
		{"pg_dump", "--format=custom", "--file=" + dump, server.URL("postgres")},
		{"pg_restore", "--exit-on-error", "--dbname=" + other.URL("postgres"), dump},
	} {
		if out, err := exec.CommandContext(t.Context(), filepath.Join(bin, args[0]), args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
	return other
}

// copyTables is a dump in one snapshot, and its restore, for data alone.
func copyTables(t *testing.T, from, to *embeddedpg.Server) {
	t.Helper()
	ctx := t.Context()
	target := migrated(t, to)
	createCounts(t, target)
	source, err := connect(t, from).BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Rollback(ctx) //nolint:errcheck // nothing to keep
	tx, err := target.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // a no-op after the commit
	run := func(sql string, args ...any) {
		t.Helper()
		if _, err := tx.Exec(ctx, sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run(`set local session_replication_role = replica`) // no triggers
	rows, _ := source.Query(ctx, `
		select c.oid::regclass::text, string_agg(quote_ident(a.attname), ', ' order by a.attnum) filter (where a.attgenerated = ''),
		       array_remove(array_agg(pg_get_serial_sequence(c.oid::regclass::text, a.attname)), null)
		from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
		where c.relkind = 'r' and c.relnamespace in ('outbox'::regnamespace, 'public'::regnamespace)
		group by c.oid`)
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		Name, Columns string
		Sequences     []string
	}])
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		var data bytes.Buffer
		if _, err := source.Conn().PgConn().CopyTo(ctx, &data, fmt.Sprintf("copy %s (%s) to stdout", table.Name, table.Columns)); err != nil {
			t.Fatal(err)
		}
		run("delete from " + table.Name)
		if _, err := tx.Conn().PgConn().CopyFrom(ctx, io.Reader(&data), fmt.Sprintf("copy %s (%s) from stdin", table.Name, table.Columns)); err != nil {
			t.Fatal(err)
		}
		for _, sequence := range table.Sequences {
			var (
				last   int64
				called bool
			)
			if err := source.QueryRow(ctx, "select last_value, is_called from "+sequence).Scan(&last, &called); err != nil {
				t.Fatal(err)
			}
			run(`select setval($1::text::regclass, $2, $3)`, sequence, last, called)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
}
