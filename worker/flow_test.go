package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

func publishNumbered(t *testing.T, db *pgtest.DB, n int, key func(int) string) {
	t.Helper()
	events := make([]outbox.Event, n)
	for i := range events {
		events[i] = outbox.Event{Topic: "a", Key: key(i), Payload: json.RawMessage(fmt.Sprintf(`{"n": %d}`, i))}
	}
	if _, err := outbox.Publish(t.Context(), db.Pool, events...); err != nil {
		t.Fatal(err)
	}
}

// TestSnooze has a handler put each event off twice: that is no attempt.
func TestSnooze(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			publishNumbered(t, db, 20, func(i int) string { return fmt.Sprint("key-", i%4) })
			var calls, handled atomic.Int64
			var mu sync.Mutex
			seen := map[int]int{}
			startForm(t, db, f, worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{MaxAttempts: 2}},
				func(_ context.Context, _ execer, e *worker.Event[payload]) error {
					calls.Add(1)
					if e.Attempt != 1 {
						t.Errorf("event %d: attempt %d", e.Payload.N, e.Attempt)
					}
					mu.Lock()
					defer mu.Unlock()
					if seen[e.Payload.N]++; seen[e.Payload.N] <= 2 {
						return worker.Snooze(10 * time.Millisecond)
					}
					handled.Add(1)
					return nil
				})
			eventually(t, 30*time.Second, "all are handled", func() bool { return handled.Load() >= 20 && settledAll(t, db.Pool) })
			if list := rows(t, db); len(list) != 0 {
				t.Errorf("left: %+v", list)
			}
		})
	}
}

// TestPauseFor has a service answer a few calls each 300 ms, and refuse others until then: nothing is a dead letter although an event
// has one attempt only, and little is refused.
func TestPauseFor(t *testing.T) {
	t.Parallel()
	const all, each = 60, 15
	db := pgtest.New(t)
	publishNumbered(t, db, all, func(int) string { return "" })
	var left, refused, handled atomic.Int64
	var log lines
	left.Store(each)
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	go func() {
		for {
			select {
			case <-tick.C:
				left.Store(each)
			case <-t.Context().Done():
				return
			}
		}
	}()
	begun, cfg := time.Now(), worker.Config{Concurrency: 4, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	start(t, db.Pool, cfg, worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{MaxAttempts: 1}},
		func(context.Context, *worker.Event[payload]) error {
			time.Sleep(time.Millisecond) // what the call takes
			if left.Add(-1) < 0 {
				refused.Add(1)
				return worker.PauseFor(300*time.Millisecond, errors.New("429"))
			}
			handled.Add(1)
			return nil
		})
	eventually(t, 30*time.Second, "all are handled", func() bool { return handled.Load() >= all && settledAll(t, db.Pool) })
	if list := rows(t, db); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
	if n := refused.Load(); n > 15*4 { // if each were refused until its turn, they would be 90
		t.Errorf("%d calls were refused", n)
	}
	if n, most := log.count("paused by the handler"), int(time.Since(begun)/time.Second)+1; n == 0 || n > most {
		t.Errorf("%d lines say that it paused, want 1 to %d", n, most)
	}
}

// TestPauseForEver has a handler pause for longer than clocks count: nothing else begins, and both events wait.
func TestPauseForEver(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishNumbered(t, db, 2, func(int) string { return "" })
	var calls atomic.Int64
	start(t, db.Pool, worker.Config{Concurrency: 1}, worker.Subscription{Name: "s", Topics: everything}, func(context.Context, *worker.Event[payload]) error {
		calls.Add(1)
		return worker.PauseFor(math.MaxInt64, nil)
	})
	eventually(t, 20*time.Second, "both wait", func() bool { return len(rows(t, db)) == 2 })
	if n := calls.Load(); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// TestOutage has everything fail for a while: no event has more than one attempt counted when it is over, none is a dead letter, little
// is read meanwhile, and all is handled soon after.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			const first, more = 50, 2000
			var down atomic.Bool
			var calls, handled atomic.Int64
			down.Store(true)
			publishNumbered(t, db, first, func(i int) string { return fmt.Sprint("key-", i) })
			startForm(t, db, f, worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{MaxAttempts: 4, InitialInterval: 50 * time.Millisecond, MaxInterval: 200 * time.Millisecond}},
				func(context.Context, execer, *worker.Event[payload]) error {
					calls.Add(1)
					if down.Load() {
						return errors.New("connection refused")
					}
					handled.Add(1)
					return nil
				})
			eventually(t, 30*time.Second, "it is tried several times", func() bool { return calls.Load() > first })
			publishNumbered(t, db, more, func(i int) string { return fmt.Sprint("other-", i) })
			time.Sleep(3 * time.Second) // the outage
			list := rows(t, db)
			for _, r := range list {
				if r.State != string(outbox.Retrying) && r.State != string(outbox.Running) || r.Attempt > 3 {
					t.Fatalf("event %d is %s after %d attempts", r.N, r.State, r.Attempt)
				}
			}
			if len(list) > first+more/2 {
				t.Errorf("%d deliveries: the log is copied", len(list))
			}
			down.Store(false)
			eventually(t, 30*time.Second, "all are handled", func() bool { return handled.Load() >= first+more && settledAll(t, db.Pool) })
			if list := rows(t, db); len(list) != 0 {
				t.Errorf("left: %+v", list)
			}
		})
	}
}

// TestAlwaysFailing has 60 keys fail all the time, and nothing else for a while; then others come: they do not wait for them.
func TestAlwaysFailing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishNumbered(t, db, 60, func(i int) string { return fmt.Sprint("bad-", i) })
	var failed, handled atomic.Int64
	start(t, db.Pool, worker.Config{}, worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{InitialInterval: 20 * time.Millisecond}},
		func(_ context.Context, e *worker.Event[payload]) error {
			if e.Key[0] == 'b' {
				failed.Add(1)
				return errors.New("not this one")
			}
			handled.Add(1)
			return nil
		})
	eventually(t, 30*time.Second, "they fail", func() bool { return failed.Load() > 60 })
	time.Sleep(2 * time.Second) // nothing else happens
	published, stalled := time.Now(), stalls(t, db.Conn(t))
	publishNumbered(t, db, 100, func(i int) string { return fmt.Sprint("good-", i) })
	eventually(t, 30*time.Second, "the others are handled", func() bool { return handled.Load() >= 100 })
	if took := time.Since(published) - stalled(); took > 2*time.Second { // at the pace of what fails, it takes more than a minute
		t.Errorf("that took %v", took)
	}
}

// TestAlwaysFailingWithRate has more keys fail, in an outage, than a claim takes, so that something of them is always due: a subscription with a rate reads on all the same.
func TestAlwaysFailingWithRate(t *testing.T) {
	t.Parallel()
	const bad = 300
	db := pgtest.New(t)
	publishNumbered(t, db, bad, func(i int) string { return fmt.Sprint("bad-", i) })
	var failed, handled atomic.Int64
	s := worker.Subscription{Name: "s", Topics: everything, Concurrency: bad, Rate: 5000, Retry: worker.Retry{Delay: func(int) time.Duration { return time.Millisecond }}}
	start(t, db.Pool, worker.Config{}, s, func(_ context.Context, e *worker.Event[payload]) error {
		if e.Key[0] == 'b' {
			failed.Add(1)
			return errors.New("not this one")
		}
		handled.Add(1)
		return nil
	})
	eventually(t, 30*time.Second, "they fail", func() bool { return failed.Load() >= bad })
	publishNumbered(t, db, 100, func(i int) string { return fmt.Sprint("good-", i) })
	eventually(t, 30*time.Second, "the others are handled", func() bool { return handled.Load() >= 100 })
}

// TestAlwaysFailingEnd has keys that always fail, and little else: they do not open the breaker again and again, which would give
// their attempts back for ever, but end as dead letters.
func TestAlwaysFailingEnd(t *testing.T) {
	t.Parallel()
	const bad, attempts = 60, 4
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			publishNumbered(t, db, bad, func(i int) string { return fmt.Sprint("bad-", i) })
			s := worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{MaxAttempts: attempts, Delay: func(int) time.Duration { return 20 * time.Millisecond }}}
			startForm(t, db, f, s, func(_ context.Context, _ execer, e *worker.Event[payload]) error {
				if e.Key[0] == 'b' {
					return errors.New("not this one")
				}
				return nil
			})
			n := 0
			eventually(t, 60*time.Second, "they are dead", func() bool {
				publishNumbered(t, db, 1, func(int) string { return fmt.Sprint("good-", n) })
				n++
				dead := slices.DeleteFunc(rows(t, db), func(r row) bool { return r.State != "dead" })
				return len(dead) == bad
			})
			if i := slices.IndexFunc(rows(t, db), func(r row) bool { return r.State == "dead" && r.Attempt != attempts }); i >= 0 {
				t.Errorf("one has had %d attempts, not %d", rows(t, db)[i].Attempt, attempts)
			}
		})
	}
}

// TestRate keeps two workers of one subscription to a rate that they share, in each form: it is nearly reached, and never passed.
func TestRate(t *testing.T) {
	t.Parallel()
	const all, rate, burst = 120, 40, 4
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			publishNumbered(t, db, all, func(i int) string { return fmt.Sprint("key-", i) })
			stalled := stalls(t, db.Conn(t))
			var mu sync.Mutex
			var began []time.Time
			s := worker.Subscription{Name: "s", Topics: everything, Rate: rate, RateBurst: burst}
			for range 2 {
				startForm(t, db, f, s, func(context.Context, execer, *worker.Event[payload]) error {
					mu.Lock()
					defer mu.Unlock()
					began = append(began, time.Now())
					return nil
				})
			}
			eventually(t, 60*time.Second, "all are handled", func() bool { return settledAll(t, db.Pool) })
			mu.Lock()
			defer mu.Unlock()
			if len(began) < all {
				t.Fatalf("%d calls", len(began))
			}
			slices.SortFunc(began, time.Time.Compare)
			away := stalled() // attempts whose time came meanwhile have begun at once after it
			for i := range began {
				for k := i + burst + 6; k < len(began); k++ { // each worker may round its share of the burst up
					if n, took := k-i+1, began[k].Sub(began[i]); float64(n) > rate*(took+away).Seconds()+burst+6 && f.name != "batch" && f.name != "batch tx" {
						t.Fatalf("%d calls within %v", n, took)
					}
				}
			}
			if took := began[len(began)-1].Sub(began[0]); took+away < all/2*time.Second/rate {
				t.Errorf("all of them within %v", took)
			}
			t.Logf("%d events in %v", len(began), began[len(began)-1].Sub(began[0]))
		})
	}
}
