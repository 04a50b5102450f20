package worker_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// TestNoTimeForAll has a window of many keys, one of which always fails: so the others are handled one by one, and the window has time for
// some only. The rest become deliveries that are claimed together with the one that fails, so a turn has time for some only. Those are claimed
// again at once, and not when the backlog is next compared with the database.
func TestNoTimeForAll(t *testing.T) {
	t.Parallel()
	const keys = 1000
	for _, test := range []struct {
		form    string
		suspect bool // whether each event has its row before it is handled, as after the death of a worker
	}{{"tx", false}, {"batch tx", false}, {"tx", true}, {"batch tx", true}, {"batch", true}, {"each", true}, {"async", true}} {
		t.Run(fmt.Sprintf("%s suspect=%t", test.form, test.suspect), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			l := newLedger()
			pause := 0.003
			if test.form == "each" || test.form == "async" {
				pause = 0.025 // over the four connections of the pool, a window has no time for all either
			}
			handle := func(ctx context.Context, db execer, e *worker.Event[payload]) error {
				if e.Key == "fails" {
					return errors.New("no")
				}
				rows, err := db.Query(ctx, `select pg_sleep($1)`, pause)
				if err != nil {
					return err
				}
				rows.Close()
				l.add(e)
				return rows.Err()
			}
			w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
			if err != nil {
				t.Fatal(err)
			}
			s := worker.Subscription{
				Name: "s", Topics: everything, BreakerAfter: worker.Unlimited,
				Retry: worker.Retry{MaxAttempts: worker.Unlimited, Delay: func(int) time.Duration { return 50 * time.Millisecond }},
			}
			if err := formNamed(test.form).register(w, s, db, handle); err != nil {
				t.Fatal(err)
			}
			if _, err := engine.Subscribe(t.Context(), db.Pool, s.Name, s.Topics, outbox.FromBeginning); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Pool.Exec(t.Context(), `update outbox.lanes set suspect = $1`, test.suspect); err != nil {
				t.Fatal(err)
			}
			publish(t, db.Pool, "fails", 0, 1)
			for i := range keys {
				publish(t, db.Pool, fmt.Sprint(i), 0, 1)
			}
			start := time.Now()
			runUntilStopped(t, w)
			handled, last := 0, start // that one was handled
			eventually(t, 4*time.Minute, "the others are handled", func() bool {
				if n := len(l.all()); n > handled {
					handled, last = n, time.Now()
				}
				if rest := time.Since(last); rest > 40*time.Second {
					t.Fatalf("%d of %d are handled, and nothing happens for %v: the rest waits for the next comparison", handled, keys, rest)
				}
				var left int
				err := db.Pool.QueryRow(t.Context(), `select count(*) from outbox.deliveries d where d.key <> 'fails'`).Scan(&left)
				return err == nil && left == 0 && handled >= keys
			})
			t.Logf("that took %s", time.Since(start))
		})
	}
}

// TestSuspectsNotBegun has a dead worker leave events, and an outage begin with the first of them: those that were not begun, and have their row by then, are tried as
// soon as that is over, and not when the backlog is next compared with the database.
func TestSuspectsNotBegun(t *testing.T) {
	t.Parallel()
	const keys = 50
	for _, test := range []struct{ form, key string }{{"each", "key-%d"}, {"async", "key-%d"}, {"each", ""}, {"batch", "key-%d"}, {"tx", "key-%d"}} {
		t.Run(fmt.Sprintf("%s key=%q", test.form, test.key), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
			if err != nil {
				t.Fatal(err)
			}
			s := worker.Subscription{Name: "s", Topics: everything, Concurrency: 1, Retry: worker.Retry{MaxAttempts: worker.Unlimited}}
			var calls atomic.Int64
			handle := func(context.Context, execer, *worker.Event[payload]) error {
				if calls.Add(1) == 1 {
					return worker.Outage(errors.New("it is away"))
				}
				return nil
			}
			if err := formNamed(test.form).register(w, s, db, handle); err != nil {
				t.Fatal(err)
			}
			if _, err := engine.Subscribe(t.Context(), db.Pool, s.Name, s.Topics, outbox.FromBeginning); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Pool.Exec(t.Context(), `update outbox.lanes set suspect = true`); err != nil {
				t.Fatal(err)
			}
			publishNumbered(t, db, keys, func(i int) string {
				if test.key == "" {
					return ""
				}
				return fmt.Sprintf(test.key, i)
			})
			runUntilStopped(t, w)
			took := eventually(t, 45*time.Second, "all are handled", func() bool { return settledAll(t, db.Pool) && len(rows(t, db)) == 0 })
			t.Logf("that took %s", took)
		})
	}
}
