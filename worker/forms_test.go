package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// A form registers a handler of single events, which writes through db, in one of the ways in which that can be done.
type form struct {
	name     string
	exactly  bool // whether its effects are exactly once
	register func(w *worker.Worker, s worker.Subscription, db *pgtest.DB, handle func(context.Context, execer, *worker.Event[payload]) error) error
}

type execer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

var forms = []form{
	{"each", false, func(w *worker.Worker, s worker.Subscription, db *pgtest.DB, handle func(context.Context, execer, *worker.Event[payload]) error) error {
		return worker.Handle(w, s, func(ctx context.Context, e *worker.Event[payload]) error { return handle(ctx, db.Pool, e) })
	}},
	{"async", false, func(w *worker.Worker, s worker.Subscription, db *pgtest.DB, handle func(context.Context, execer, *worker.Event[payload]) error) error {
		return worker.HandleAsync(w, s, worker.Strict, func(ctx context.Context, e *worker.Event[payload], done func(error)) { done(handle(ctx, db.Pool, e)) })
	}},
	{"batch", false, func(w *worker.Worker, s worker.Subscription, db *pgtest.DB, handle func(context.Context, execer, *worker.Event[payload]) error) error {
		return worker.HandleBatch(w, s, func(ctx context.Context, events []*worker.Event[payload]) error {
			errs := make([]error, len(events))
			for i, e := range events {
				errs[i] = handle(ctx, db.Pool, e)
			}
			return worker.PerEvent(errs)
		})
	}},
	{"tx", true, func(w *worker.Worker, s worker.Subscription, _ *pgtest.DB, handle func(context.Context, execer, *worker.Event[payload]) error) error {
		return worker.HandleTx(w, s, func(ctx context.Context, tx pgx.Tx, e *worker.Event[payload]) error { return handle(ctx, tx, e) })
	}},
	{"batch tx", true, func(w *worker.Worker, s worker.Subscription, _ *pgtest.DB, handle func(context.Context, execer, *worker.Event[payload]) error) error {
		return worker.HandleBatchTx(w, s, func(ctx context.Context, tx pgx.Tx, events []*worker.Event[payload]) error {
			for _, e := range events {
				if err := handle(ctx, tx, e); err != nil {
					return err
				}
			}
			return nil
		})
	}},
}

func formNamed(name string) form {
	return forms[slices.IndexFunc(forms, func(f form) bool { return f.name == name })]
}

// TestForms has the same events handled in each form: some fail for a while, some for good, one panics, one takes too long for a
// statement, one hides the error of a statement, one violates a deferred constraint. Each that succeeds leaves its effect once,
// each other none, and the events of a key come in
// order.
func TestForms(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			_, err := db.Pool.Exec(t.Context(), `
				create table public.allowed (key text not null, n integer not null, primary key (key, n));
				create table public.effects (seq bigint primary key generated always as identity, key text not null, n integer not null,
				    foreign key (key, n) references public.allowed deferrable initially deferred);
				insert into public.allowed select k, n from unnest('{a,b,""}'::text[]) k, generate_series(1, 30) n where n <> 11`)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"a", "b", ""} {
				publish(t, db.Pool, key, 1, 31)
			}
			dead := map[int]bool{9: true, 11: f.exactly, 14: f.exactly}
			handle := func(ctx context.Context, tx execer, e *worker.Event[payload]) error {
				exec := func(sql string, args ...any) error {
					rows, err := tx.Query(ctx, sql, args...)
					if err != nil {
						return err
					}
					rows.Close()
					return rows.Err()
				}
				n := e.Payload.N
				if n == 11 && !f.exactly {
					return nil // the constraint is of interest only where the effect is in the settling transaction
				}
				if n == 13 && e.Attempt == 1 {
					return exec(`select pg_sleep(10)`)
				}
				if err := exec(`insert into public.effects (key, n) values ($1, $2)`, e.Key, n); err != nil {
					return err
				}
				if !f.exactly { // what is written stays, so it is the last thing to happen
					return nil
				}
				switch {
				case n == 7 && e.Attempt < 3:
					return errors.New("for a while")
				case n == 8 && e.Attempt == 1:
					panic("once")
				case n == 9:
					return worker.DeadLetter(errors.New("for good"))
				case n == 14:
					_ = exec(`select 1/0`) // says nothing
				}
				return nil
			}
			failFirst := func(ctx context.Context, tx execer, e *worker.Event[payload]) error {
				if !f.exactly {
					switch n := e.Payload.N; {
					case n == 7 && e.Attempt < 3:
						return errors.New("for a while")
					case n == 8 && e.Attempt == 1 && (f.name == "each" || f.name == "async"):
						panic("once")
					case n == 9:
						return worker.DeadLetter(errors.New("for good"))
					}
				}
				return handle(ctx, tx, e)
			}
			s := worker.Subscription{
				Name: "s", Topics: everything, Timeout: time.Second, BreakerAfter: worker.Unlimited,
				// More attempts than fail on purpose: a busy machine may have some run into their timeout.
				Retry: worker.Retry{MaxAttempts: 6, Delay: func(int) time.Duration { return 10 * time.Millisecond }},
			}
			stop := startForm(t, db, f, s, failFirst)
			nDead := 0
			for _, d := range dead {
				if d {
					nDead += 3
				}
			}
			var left []row
			eventually(t, 30*time.Second, "all is over", func() bool {
				left = rows(t, db)
				return len(left) == nDead && settledAll(t, db.Pool)
			})
			stop()
			for _, r := range left {
				if !dead[r.N] || r.State != "dead" {
					t.Errorf("left is %+v", r)
				}
			}
			found, err := db.Pool.Query(t.Context(), `select key, array_agg(n order by seq) from public.effects group by key`)
			if err != nil {
				t.Fatal(err)
			}
			var key string
			var ns, want []int
			for n := 1; n <= 30; n++ {
				if !dead[n] && n != 11 {
					want = append(want, n)
				}
			}
			keys := 0
			_, err = pgx.ForEachRow(found, []any{&key, &ns}, func() error {
				keys++
				if key == "" || f.name == "batch" {
					slices.Sort(ns) // in any order; within a slice it is the handler's, and this one goes on after a failure
				}
				if !f.exactly {
					ns = slices.Compact(ns) // a busy machine may have let an attempt run into its timeout after its effect
				}
				if !slices.Equal(ns, want) {
					t.Errorf("key %q left the effects\n%v, want\n%v", key, ns, want)
				}
				return nil
			})
			if err != nil || keys != 3 {
				t.Errorf("%d keys left effects, %v", keys, err)
			}
		})
	}
}

// TestExactlyOnce counts events in the settling transaction, while workers are killed and backends terminated: the count is
// that of the events.
func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	createCounts(t, db.Pool)
	stop := make(chan struct{})
	ledger, publishing := publishLoad(db.URL, 4, 2*time.Millisecond, stop)
	cfg := processConfig{URL: db.URL, Subscription: "s", Count: true}
	crew := make([]*process, 2)
	for n := range crew {
		cfg.Name = fmt.Sprint("worker-", n)
		crew[n] = spawn(t, cfg)
	}
	var counted int64
	grow := func(by int64) {
		before := counted
		eventually(t, 30*time.Second, "more is counted", func() bool {
			return db.Pool.QueryRow(t.Context(), `select coalesce(sum(n), 0)::bigint from public.counts`).Scan(&counted) == nil && counted >= before+by
		})
	}
	for round := range 4 {
		grow(100)
		n := round % 2
		crew[n].Signal(syscall.SIGKILL)
		<-crew[n].Ended()
		cfg.Name = fmt.Sprint("worker-", n, "-", round)
		crew[n] = spawn(t, cfg)
		eventually(t, 30*time.Second, "it serves", func() bool { // one that is just starting ends with its first connection
			serves := false
			err := db.Pool.QueryRow(t.Context(), `select exists (select from outbox.workers w join outbox.lanes l on l.owner = w.id where w.name = $1)`, cfg.Name).Scan(&serves)
			return err == nil && serves
		})
		grow(100)
		if _, err := db.Pool.Exec(t.Context(), `
			select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'signalbox%'`); err != nil {
			t.Fatal(err)
		}
	}
	grow(100)
	close(stop)
	publishing.Wait()
	eventually(t, 30*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	for _, p := range crew {
		p.stop(t)
	}
	checkCounts(t, db.Pool)
	t.Logf("%d events were committed", ledger.total())
}
