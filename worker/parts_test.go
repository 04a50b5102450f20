package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestFailingWindowIsHalved has one event of a thousand fail, in each way in which one can. The others take effect at once, and in few calls: one
// by one, they would take a thousand, and a subscription whose windows each have such an event would fall behind.
func TestFailingWindowIsHalved(t *testing.T) {
	t.Parallel()
	const keys, each = 100, 10
	insertSQL := `insert into public.effects (key, n) select * from unnest($1::text[], $2::integer[])`
	fails := errors.New("not yet")
	for name, c := range map[string]struct {
		most int // calls
		n    int // which of key-50 it is
		fail func(ctx context.Context, tx pgx.Tx, at, n int) error
	}{
		"an error":             {50, 5, func(context.Context, pgx.Tx, int, int) error { return fails }},
		"a panic":              {50, 5, func(context.Context, pgx.Tx, int, int) error { panic(fails) }},
		"the end of a routine": {50, 5, func(context.Context, pgx.Tx, int, int) error { runtime.Goexit(); return nil }},
		"a failed statement":   {50, 5, func(ctx context.Context, tx pgx.Tx, _, _ int) error { _, _ = tx.Exec(ctx, `select 1/0`); return nil }},
		"a deferred constraint": {50, 5, func(ctx context.Context, tx pgx.Tx, _, _ int) error {
			_, err := tx.Exec(ctx, `insert into public.refused values (1)`)
			return err
		}},
		"the end of its transaction": {50, 5, func(ctx context.Context, tx pgx.Tx, _, _ int) error { _, err := tx.Exec(ctx, `rollback`); return err }},
		"an error of its own": {12, 5, func(_ context.Context, _ pgx.Tx, at, n int) error {
			errs := make([]error, n)
			errs[at] = fails
			return worker.PerEvent(errs)
		}},
		"its timeout": {keys * each, 0, func(ctx context.Context, _ pgx.Tx, _, _ int) error { <-ctx.Done(); return ctx.Err() }},
		"the end of its connection": {3 * keys * each, 5, func(ctx context.Context, tx pgx.Tx, _, _ int) error {
			_, err := tx.Exec(ctx, `select pg_terminate_backend(pg_backend_pid())`)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := pgtest.New(t)
			if _, err := db.Pool.Exec(ctx, `
				create table public.effects (seq bigint primary key generated always as identity, key text not null, n integer not null, unique (key, n));
				create table public.nothing (n integer primary key);
				create table public.refused (n integer references public.nothing deferrable initially deferred)`); err != nil {
				t.Fatal(err)
			}
			for n := range each {
				for k := range keys {
					publish(t, db.Pool, fmt.Sprint("key-", k), n, n+1)
				}
			}
			var mu sync.Mutex
			calls, failed := 0, map[string]int{}
			s := worker.Subscription{
				Name: "s", Topics: everything,
				Retry: worker.Retry{Delay: func(int) time.Duration { return 100 * time.Millisecond }},
			}
			if name == "its timeout" {
				s.Timeout = time.Second
			}
			w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), Hooks: []worker.Hooks{{AttemptEnded: func(_ context.Context, a worker.Attempt) {
				mu.Lock()
				defer mu.Unlock()
				if a.Err != nil {
					failed[fmt.Sprint(a.Event.Key, " ", string(a.Event.Payload))]++
				}
			}}}})
			if err != nil {
				t.Fatal(err)
			}
			if err := worker.HandleBatchTx(w, s, func(ctx context.Context, tx pgx.Tx, events []*worker.Event[payload]) error {
				mu.Lock()
				calls++
				mu.Unlock()
				var names []string
				var ns []int
				for _, e := range events {
					names, ns = append(names, e.Key), append(ns, e.Payload.N)
				}
				if _, err := tx.Exec(ctx, insertSQL, names, ns); err != nil {
					return err
				}
				at := slices.IndexFunc(events, func(e *worker.Event[payload]) bool {
					return e.Key == "key-50" && e.Payload.N == c.n && e.Attempt < 3
				})
				if at < 0 {
					return nil
				}
				return c.fail(ctx, tx, at, len(events))
			}); err != nil {
				t.Fatal(err)
			}
			runUntilStopped(t, w)
			eventually(t, 60*time.Second, "all is done", func() bool {
				return len(rows(t, db)) == 0 && settledAll(t, db.Pool) && number(t, db, `select count(*) from public.effects`) == keys*each
			})
			effectsInOrder(t, db)
			mu.Lock()
			defer mu.Unlock()
			if len(failed) != 1 {
				t.Errorf("failed have %v", failed)
			}
			if calls > c.most {
				t.Errorf("%d calls, want at most %d", calls, c.most)
			}
		})
	}
}

// effectsInOrder expects that the effects of each key are those of events from 0 on, in their order.
func effectsInOrder(t *testing.T, db *pgtest.DB) {
	t.Helper()
	if wrong := number(t, db, `
		select count(*) from (select n - lag(n, 1, -1) over (partition by key order by seq) as step from public.effects) e where step <> 1`); wrong != 0 {
		t.Errorf("%d effects are out of order", wrong)
	}
}

// TestNamedBehindOne has a batch say of two events of a key that they fail: the second for what the first has not written, and for good. Only the first
// has failed; the second waits, and takes effect once the first has.
func TestNamedBehindOne(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publish(t, db.Pool, "other", 0, 20)
	publish(t, db.Pool, "k", 0, 4) // the first read has one of each lane
	var mu sync.Mutex
	var order []int
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{Delay: func(int) time.Duration { return 50 * time.Millisecond }}}
	if err := worker.HandleBatchTx(w, s, func(_ context.Context, _ pgx.Tx, events []*worker.Event[payload]) error {
		errs := make([]error, len(events))
		failed := false
		var ns []int
		for i, e := range events {
			switch {
			case e.Key != "k":
			case e.Payload.N == 1 && e.Attempt == 1:
				errs[i], failed = errors.New("not yet"), true
			case failed:
				errs[i] = worker.DeadLetter(errors.New("there is nothing that it is about"))
			default:
				ns = append(ns, e.Payload.N)
			}
		}
		if err := worker.PerEvent(errs); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		order = append(order, ns...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	eventually(t, 20*time.Second, "all is done", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(order) == 4 && len(rows(t, db)) == 0 && settledAll(t, db.Pool)
	})
	if !slices.Equal(order, []int{0, 1, 2, 3}) {
		t.Errorf("in this order: %v", order)
	}
}

// TestPutOffInOrder puts events off in each way in which a window does that, in the middle of keys: for a key that takes long beside another, for a rate,
// for a pause, for the breaker, and behind one that fails. Each takes effect once, and those of a key in order: once one of a key is put off, so is what is behind it.
func TestPutOffInOrder(t *testing.T) {
	t.Parallel()
	const keys, each = 6, 40
	long := func(e *worker.Event[payload]) error { // of two keys: the first has taken most of a window's time, and then has not
		if n := e.Payload.N; n >= 2 && n < 6 && e.Key < "key-2" {
			time.Sleep(map[string]time.Duration{"key-0": 150 * time.Millisecond, "key-1": 200 * time.Millisecond}[e.Key])
		}
		return nil
	}
	for _, c := range []struct {
		name string
		form string
		sub  worker.Subscription
		act  func(e *worker.Event[payload]) error
	}{
		{"long keys", "tx", worker.Subscription{}, long},
		{"long keys beside one that fails", "tx", worker.Subscription{}, func(e *worker.Event[payload]) error {
			if e.Key == "key-5" && e.Payload.N == 2 && e.Attempt == 1 {
				return errors.New("no")
			}
			return long(e)
		}},
		{"a rate", "batch tx", worker.Subscription{Rate: 300, RateBurst: 60}, sometimes(20, errors.New("no"))},
		{"a rate", "tx", worker.Subscription{Rate: 300, RateBurst: 60}, sometimes(20, errors.New("no"))},
		{"pauses", "batch tx", worker.Subscription{}, sometimes(30, worker.PauseFor(time.Millisecond, errors.New("429")))},
		{"pauses", "tx", worker.Subscription{}, sometimes(30, worker.PauseFor(time.Millisecond, errors.New("429")))},
		{"pauses", "each", worker.Subscription{}, sometimes(30, worker.PauseFor(time.Microsecond, errors.New("429")))},
		{"pauses", "async", worker.Subscription{}, sometimes(30, worker.PauseFor(time.Microsecond, errors.New("429")))},
		{"outages", "each", worker.Subscription{BreakerAfter: 5}, sometimes(3, errors.New("no"))},
		{"outages", "async", worker.Subscription{BreakerAfter: 5}, sometimes(3, errors.New("no"))},
		{"outages", "batch tx", worker.Subscription{BreakerAfter: 5}, sometimes(3, errors.New("no"))},
		{"outages", "tx", worker.Subscription{BreakerAfter: 5}, sometimes(3, errors.New("no"))},
		{"what lasts", "batch tx", worker.Subscription{}, func(e *worker.Event[payload]) error {
			if e.Payload.N%10 == 0 {
				time.Sleep(200 * time.Millisecond)
			}
			return sometimes(20, errors.New("no"))(e)
		}},
	} {
		t.Run(c.name+" "+c.form, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			if _, err := db.Pool.Exec(t.Context(), `create table public.effects (seq bigint primary key generated always as identity, key text not null, n integer not null, unique (key, n))`); err != nil {
				t.Fatal(err)
			}
			for n := 0; n < each; n += 2 {
				for k := range keys {
					publish(t, db.Pool, fmt.Sprint("key-", k), n, n+2)
				}
			}
			c.sub.Name, c.sub.Topics = "s", everything
			c.sub.Retry = worker.Retry{MaxAttempts: worker.Unlimited, Delay: func(int) time.Duration { return 5 * time.Millisecond }}
			startForm(t, db, formNamed(c.form), c.sub, func(ctx context.Context, tx execer, e *worker.Event[payload]) error {
				if err := c.act(e); err != nil {
					return err
				}
				rows, err := tx.Query(ctx, `insert into public.effects (key, n) values ($1, $2)`, e.Key, e.Payload.N)
				if err != nil {
					return err
				}
				rows.Close()
				return rows.Err()
			})
			eventually(t, 2*time.Minute, "all is done", func() bool { return number(t, db, `select count(*) from public.effects`) == keys*each })
			effectsInOrder(t, db)
		})
	}
}

// sometimes returns an error once in so many times.
func sometimes(in int, err error) func(*worker.Event[payload]) error {
	return func(*worker.Event[payload]) error {
		if rand.IntN(in) == 0 {
			return err
		}
		return nil
	}
}
