package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// A leftover is what a transactional handler leaves behind on its transaction or connection.
type leftover struct {
	name   string
	leave  func(ctx context.Context, tx pgx.Tx) error
	reason string // why the attempt fails; empty where it is handled, and what is left is undone
}

// runs leaves behind what statements leave. What they return is the handler's to report, and it does.
func runs(statements ...string) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	}
}

// hides is runs for a handler that does not report errors.
func hides(statements ...string) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		for _, sql := range statements {
			_, _ = tx.Exec(ctx, sql)
		}
		return nil
	}
}

var leftovers = []leftover{
	{"rows", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Query(ctx, `select generate_series(1, 100000)`)
		return err
	}, "close its rows"},
	{"row that is not scanned", func(ctx context.Context, tx pgx.Tx) error {
		tx.QueryRow(ctx, `select 1`)
		return nil
	}, "scan its row"},
	{"rows of a nested transaction", func(ctx context.Context, tx pgx.Tx) error {
		nested, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		_, err = nested.Query(ctx, `select 1`)
		return err
	}, "close its rows"},
	{"batch", func(ctx context.Context, tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(`select 1`)
		b.Queue(`select 2`)
		tx.SendBatch(ctx, b)
		return nil
	}, "close its rows"},
	{"nested transaction", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Begin(ctx)
		return err
	}, ""},
	{"copy", func(ctx context.Context, tx pgx.Tx) error {
		tx.Conn().PgConn().ExecParams(ctx, `copy (select generate_series(1, 100000)) to stdout`, nil, nil, nil, nil)
		return nil
	}, "end of a query or COPY"},

	{"commit", hides(`commit`), "ended its transaction"},
	{"rollback", hides(`rollback`), "ended its transaction"},
	{"rollback, reported", runs(`rollback`), "ended its transaction"},
	{"rollback and begin", hides(`rollback`, `begin`), "ended its transaction"},
	{"commit and chain", hides(`/* on */ COMMIT and chain`), "ended its transaction"},
	{"end", hides(`end`), "ended its transaction"},
	{"commit behind another", hides(`select 1; commit`), "ended its transaction"},
	{"commit of the connection", func(ctx context.Context, tx pgx.Tx) error {
		_, _ = tx.Conn().Exec(ctx, `commit`)
		return nil
	}, "ended its transaction"},
	{"commit in a batch", func(ctx context.Context, tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(`select 1`)
		b.Queue(`commit`)
		_ = tx.SendBatch(ctx, b).Close()
		return nil
	}, "ended its transaction"},
	{"commit, prepared", func(ctx context.Context, tx pgx.Tx) error {
		_, _ = tx.Prepare(ctx, "x", `commit`)
		_, _ = tx.Exec(ctx, `x`)
		return nil
	}, "ended its transaction"},
	{"prepare transaction", hides(`prepare transaction 'x'`), "ended its transaction"},
	{"rollback below pgx", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Conn().PgConn().Exec(ctx, `rollback`).ReadAll()
		return err
	}, "ended its transaction"},
	{"rollback and begin below pgx", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Conn().PgConn().Exec(ctx, `rollback; begin`).ReadAll()
		return err
	}, "ended its transaction"},
	{"begin", runs(`begin`), ""},
	{"savepoint", runs(`savepoint a`, `savepoint b`), ""},
	{"failed", hides(`select 1/0`), "had failed"},
	{"failed in a savepoint", hides(`savepoint a`, `select 1/0`), "had failed"},
	{"failed and undone", hides(`savepoint a`, `select 1/0`, `rollback to savepoint a`), ""},

	{"local role", runs(`set local role leftover_tenant`), ""},
	{"role", runs(`set role leftover_tenant`), ""},
	{"session authorization", runs(`set session authorization leftover_tenant`), ""},
	{"local session authorization", runs(`set local session authorization leftover_tenant`), ""},
	{"local read only", runs(`set local transaction_read_only = on`, `select 1`), ""},
	{"read only", runs(`set transaction read only`, `select 1`), ""},
	{"read only from now on", runs(`set session characteristics as transaction read only`), ""},
	{"isolation", runs(`set transaction isolation level serializable`), "must be called before any query"},
	{"isolation from now on", runs(`set default_transaction_isolation = 'serializable'`), ""},
	{"local search path", runs(`set local search_path = leftover`), ""},
	{"search path", runs(`set search_path = leftover`), ""},
	{"local statement timeout", runs(`set local statement_timeout = '5s'`), ""},
	{"statement timeout", runs(`set statement_timeout = '5s'`), ""},
	{"lock timeout", runs(`set lock_timeout = '5s'`), ""},
	{"idle timeout", runs(`set idle_in_transaction_session_timeout = '1h'`), ""},
	{"row security", runs(`set row_security = off`), ""},
	{"setting of its own", runs(`select set_config('leftover.tenant', 'north', false)`), ""},
	{"local setting of its own", runs(`select set_config('leftover.tenant', 'north', true)`), ""},
	{"setting in a function", runs(`select leftover.move()`), ""},
	{"encoding", runs(`set client_encoding = 'LATIN1'`), ""},
	{"dates", runs(`set DateStyle = 'SQL, DMY'`, `set IntervalStyle = 'sql_standard'`), ""},
	{"strings", runs(`set standard_conforming_strings = off`), ""},
	{"replication role", runs(`set session_replication_role = replica`), ""},
	{"reset", runs(`reset all`), ""},
	{"planner", runs(`set enable_indexscan = off`, `set enable_nestloop = off`), ""},

	{"constraints deferred", runs(`set constraints all deferred`), ""},
	{"constraints immediate", runs(`set constraints all immediate`), ""},
	{"constraint violated", runs(`insert into public.children values (99)`), "violates foreign key constraint"},
	{"constraint kept", runs(`insert into public.children values (98)`, `insert into public.parents values (98)`), ""},

	{"temporary table", runs(`create temporary table effects (n integer)`), ""},
	{"temporary table, dropped", runs(`create temporary table leftover_t (n integer) on commit drop`, `insert into leftover_t values (1)`), ""},
	{"prepared statement", runs(`prepare leftover_p as select 1`), ""},
	{"listen", runs(`listen leftover`, `notify leftover`), ""},
	{"cursor", runs(`declare leftover_c cursor for select 1`), ""},
	{"cursor with hold", runs(`declare leftover_c cursor with hold for select 1`), ""},
	{"advisory lock", runs(`select pg_advisory_lock(4711)`), ""},
	{"advisory lock of the transaction", runs(`select pg_advisory_xact_lock(4711)`), ""},

	{"closed", func(ctx context.Context, tx pgx.Tx) error { return tx.Conn().Close(ctx) }, "was closed"},
	{"closed below pgx", func(_ context.Context, tx pgx.Tx) error { return tx.Conn().PgConn().Conn().Close() }, "closed"},
	{"terminated", hides(`select pg_terminate_backend(pg_backend_pid())`), "was closed"},
	{"terminated, reported", runs(`select pg_terminate_backend(pg_backend_pid())`), "terminating connection"},
	{"unlocks the server lock", runs(`select pg_advisory_unlock_all()`, `discard temp`), ""},
}

// leftoverSeen is what a handler sees of the session: for each event the same, whatever was left behind before.
const leftoverSeen = `concat_ws(' ', session_user = 'leftover_tenant', current_user = 'leftover_tenant', current_setting('search_path'), current_setting('transaction_read_only'),
	current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('row_security'), nullif(current_setting('leftover.tenant', true), ''),
	current_setting('client_encoding'), current_setting('DateStyle'), current_setting('IntervalStyle'), current_setting('standard_conforming_strings'),
	current_setting('session_replication_role'), current_setting('enable_indexscan'), current_setting('transaction_isolation'),
	(select count(*) from pg_cursors where name like 'leftover%'), (select count(*) from pg_prepared_statements where from_sql))`

// leftoverBase is how far the numbers of the events of one leftover are from those of the next.
const leftoverBase = 100

// TestLeftovers has one event in the middle of a window leave something behind: it takes effect or fails, and says why; the others
// of the window and those after it take effect once and see nothing of it; another subscription of the worker notices nothing. The
// leftovers of a form come one after the other before the same worker, so each meets what is left of all before it.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	admin := pgtest.New(t)
	_, err := admin.Pool.Exec(t.Context(), `
		do $$ begin create role leftover_tenant; exception when duplicate_object or unique_violation then null; end $$`)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range forms {
		if !f.exactly {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			h := leaveBehind(t, f)
			for i, l := range leftovers {
				if f.name == "batch tx" && strings.HasPrefix(l.name, "rollback") && strings.HasSuffix(l.name, "below pgx") {
					continue // what the call writes afterwards is in no transaction, or in one of its own
				}
				if !t.Run(l.name, func(t *testing.T) { h.test(t, i, l) }) {
					return // those that follow would meet what should not be there
				}
			}
		})
	}
}

// A heap is a worker, and a database, on which leftovers come one after the other.
type heap struct {
	db       *pgtest.DB
	log      syncBuffer
	innocent *ledger
	events   int // that were published
	ownCall  int // the last event that may see what its own call has left
}

// leaveBehind starts a worker of a form, where event 5 of each leftover leaves it behind.
func leaveBehind(t *testing.T, f form) *heap {
	t.Helper()
	h := &heap{db: pgtest.New(t), innocent: newLedger(), ownCall: 5}
	if f.name == "batch tx" {
		h.ownCall = 10
	}
	_, err := h.db.Pool.Exec(t.Context(), `
		create table public.effects (n integer not null, seen text not null);
		create table public.parents (n integer primary key);
		create table public.children (n integer references public.parents deferrable initially deferred);
		create schema leftover;
		create function leftover.move() returns void language sql as $$
		    select set_config('role', 'leftover_tenant', true), set_config('search_path', 'leftover', false)
		$$;
		grant insert on public.effects to leftover_tenant;
		grant usage on schema public to leftover_tenant`)
	if err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(h.db.Pool, worker.Config{Logger: slog.New(slog.NewTextHandler(&h.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	retry := worker.Retry{MaxAttempts: 2, Delay: func(int) time.Duration { return time.Millisecond }}
	err = f.register(w, worker.Subscription{Name: "s", Topics: everything, Retry: retry}, h.db, func(ctx context.Context, tx execer, e *worker.Event[payload]) error {
		rows, err := tx.Query(ctx, `insert into public.effects (n, seen) select $1, `+leftoverSeen, e.Payload.N)
		if err != nil {
			return err
		}
		if rows.Close(); rows.Err() != nil {
			return rows.Err()
		}
		if e.Payload.N%leftoverBase == 5 {
			return leftovers[e.Payload.N/leftoverBase].leave(ctx, tx.(pgx.Tx))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Handle(w, worker.Subscription{Name: "innocent", Topics: everything}, record(h.innocent)); err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	return h
}

func (h *heap) test(t *testing.T, i int, l leftover) {
	base := i * leftoverBase
	publishNext := func(from, to int) {
		t.Helper()
		publish(t, h.db.Pool, "", base+from, base+to)
		h.events += to - from
	}
	effects := func() (list []int) {
		if err := h.db.Pool.QueryRow(t.Context(), `
			select coalesce(array_agg(n - $1 order by n), '{}') from public.effects where n > $1 and n < $1 + $2`, base, leftoverBase).Scan(&list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	deliveries := func() (list []row) {
		for _, r := range rows(t, h.db) {
			if r.N/leftoverBase == i {
				list = append(list, r)
			}
		}
		return list
	}
	publishNext(1, 11)
	want := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	if l.reason != "" {
		want = slices.Delete(want, 4, 5)
		eventually(t, 20*time.Second, "the event is dead", func() bool {
			list := deliveries()
			return len(list) == 1 && list[0].State == "dead"
		})
		for _, failure := range deliveries()[0].Errors {
			if !strings.Contains(failure.Error, l.reason) {
				t.Errorf("it failed because of %q, want %q", failure.Error, l.reason)
			}
		}
	}
	eventually(t, 20*time.Second, "the window is done", func() bool { return len(effects()) >= len(want) })
	publishNext(11, 14) // on what is left of the connection
	want = append(want, 11, 12, 13)
	eventually(t, 20*time.Second, "the next are done", func() bool { return len(effects()) >= len(want) })
	if got := effects(); !slices.Equal(got, want) {
		t.Errorf("the effects are %v, want %v", got, want)
	}
	var sessions, seen, locks int
	err := h.db.Pool.QueryRow(t.Context(), `select (select last_value from outbox.workers_id_seq), (select count(distinct seen) from public.effects where n % $1 < 5 or n % $1 > $2),
		(select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and database = (select oid from pg_database where datname = current_database()))`, leftoverBase, h.ownCall).
		Scan(&sessions, &seen, &locks)
	if err != nil {
		t.Fatal(err)
	}
	if sessions != 1 {
		t.Errorf("the worker had %d sessions, want 1: %s", sessions, h.log.String())
	}
	if seen != 1 {
		var all []string
		_ = h.db.Pool.QueryRow(t.Context(), `select array_agg(n || ': ' || seen order by n) from public.effects`).Scan(&all)
		t.Errorf("events see what was left behind:\n%s", strings.Join(all, "\n"))
	}
	if locks != 0 {
		t.Errorf("%d locks are left", locks)
	}
	if left := deliveries(); l.reason == "" && len(left) != 0 {
		t.Errorf("deliveries are left: %s", fmt.Sprint(left))
	}
	h.innocent.waitFor(t, h.events)
}
