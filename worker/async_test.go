package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// A client stands for one of a message broker: it answers at random, late, twice, from anywhere, or never. It checks the order in which it is
// called.
type client struct {
	t         *testing.T
	pipelined bool
	random    func(n int) int

	mu        sync.Mutex
	lines     map[string][]*sent // in flight, by key
	delivered map[string][]int   // first acknowledgements, by key
	seen      map[string]bool    // that were acknowledged
	fails     map[string]int     // attempts that failed by themselves
	barred    map[string]int     // the first message of a key that failed, from 1, until it comes again
	inFlight  int
	most      int
	twice     int
	never     int
}

type sent struct {
	e    *worker.Event[payload]
	name string
	done func(error)
}

var errBehind = errors.New("behind one that failed")

// bars reports whether a message comes behind one that has failed: until that comes again, a client that pipelines fails all of its key, also
// those that are on their way while the worker is told.
func (c *client) bars(e *worker.Event[payload]) bool {
	first := c.barred[e.Key]
	if first == 0 || !c.pipelined {
		return false
	}
	if e.Payload.N+1 <= first {
		delete(c.barred, e.Key)
		return false
	}
	return true
}

// bar has what is behind a message fail until that comes again. The caller holds the lock.
func (c *client) bar(s *sent) {
	if first := c.barred[s.e.Key]; first == 0 || s.e.Payload.N+1 < first {
		c.barred[s.e.Key] = s.e.Payload.N + 1
	}
}

// send takes a message, and answers it some time.
func (c *client) send(ctx context.Context, e *worker.Event[payload], done func(error)) {
	s := &sent{e: e, name: fmt.Sprint(e.Key, "/", e.Payload.N), done: done}
	c.mu.Lock()
	if e.Key != "" && c.bars(e) {
		c.mu.Unlock()
		done(errBehind)
		return
	}
	c.inFlight++
	c.most = max(c.most, c.inFlight)
	if e.Key != "" {
		line := c.lines[e.Key]
		if len(line) > 0 && !c.pipelined {
			c.t.Errorf("%s began while %s was in flight", s.name, line[0].name)
		}
		next := len(c.delivered[e.Key])
		if len(line) > 0 {
			next = line[len(line)-1].e.Payload.N + 1
		}
		if e.Payload.N > next {
			c.t.Errorf("%s began, and event %d of its key was neither delivered nor in flight", s.name, next)
		}
		c.lines[e.Key] = append(line, s)
	}
	var how, delay int
	if delay = c.random(20); c.random(100) == 0 {
		delay = 150 + c.random(200) // it is parked
	}
	if how = c.random(20); c.fails[s.name] >= 2 {
		how = 19
	}
	if how < 4 {
		c.fails[s.name]++
	}
	c.mu.Unlock()
	switch how {
	case 0:
		c.answer(s, errors.New("refused at once"))
		return
	case 1:
		c.drop(s)
		panic("the client is broken")
	case 2:
		c.drop(s)
		runtime.Goexit()
	case 3:
		if c.random(10) == 0 {
			c.mu.Lock()
			c.never++
			c.mu.Unlock()
			context.AfterFunc(ctx, func() { c.drop(s) }) // it forgets about it
			return
		}
		time.AfterFunc(time.Duration(delay)*time.Millisecond, func() { c.answer(s, errors.New("refused")) })
		return
	case 4:
		c.answer(s, nil)
		return
	}
	time.AfterFunc(time.Duration(delay)*time.Millisecond, func() { c.answer(s, nil) })
}

// answer is the broker's answer. A client that pipelines acknowledges a key in order, and fails what is behind one that failed.
func (c *client) answer(s *sent, err error) {
	c.mu.Lock()
	var done []*sent
	if line := c.lines[s.e.Key]; s.e.Key != "" && !slices.Contains(line, s) {
		c.mu.Unlock()
		return // it was failed already
	} else if s.e.Key != "" {
		at := slices.Index(line, s)
		if err != nil { // what is before it goes on
			c.bar(s)
			done = slices.Clone(line[at:])
			c.lines[s.e.Key] = slices.Clone(line[:at])
		} else {
			done = slices.Clone(line[:at+1])
			c.lines[s.e.Key] = slices.Clone(line[at+1:])
		}
	} else {
		done = []*sent{s}
	}
	c.inFlight -= len(done)
	for _, d := range done {
		if err == nil && !c.seen[d.name] {
			c.seen[d.name] = true
			c.delivered[d.e.Key] = append(c.delivered[d.e.Key], d.e.Payload.N)
		}
	}
	twice := c.random(5) == 0
	if twice {
		c.twice++
	}
	shuffled := c.random(2) == 0
	c.mu.Unlock()
	if shuffled && err != nil { // failures may be told in any order
		slices.Reverse(done)
	}
	for _, d := range done {
		d.done(err)
		if twice {
			d.done(errors.New("a second answer"))
		}
	}
}

// drop forgets a message that the client will not answer, and what is behind it.
func (c *client) drop(s *sent) {
	c.mu.Lock()
	var behind []*sent
	if line := c.lines[s.e.Key]; s.e.Key == "" {
		c.inFlight--
	} else if at := slices.Index(line, s); at >= 0 {
		c.bar(s)
		behind = slices.Clone(line[at+1:])
		c.inFlight -= len(line) - at
		c.lines[s.e.Key] = slices.Clone(line[:at])
	}
	c.mu.Unlock()
	for _, d := range behind {
		d.done(errBehind)
	}
}

// TestAsyncOrder has clients answer at random: each event is delivered, no attempt is counted that was not made, and the events of each key
// come in order.
func TestAsyncOrder(t *testing.T) {
	t.Parallel()
	for _, order := range []worker.KeyOrder{worker.Strict, worker.Pipelined} {
		for _, limit := range []int{0, 7} {
			t.Run(fmt.Sprintf("order %d, limit %d", order, limit), func(t *testing.T) {
				t.Parallel()
				seed := uint64(time.Now().UnixNano())
				t.Logf("seed %d", seed)
				var mu sync.Mutex
				source := rand.New(rand.NewPCG(seed, 0))
				const keys, perKey = 20, 40
				db := pgtest.New(t)
				c := &client{
					t: t, pipelined: order == worker.Pipelined, lines: map[string][]*sent{}, delivered: map[string][]int{}, seen: map[string]bool{}, fails: map[string]int{}, barred: map[string]int{},
					random: func(n int) int {
						mu.Lock()
						defer mu.Unlock()
						return source.IntN(n)
					},
				}
				for k := range keys {
					key := fmt.Sprint("key-", k)
					if k == 0 {
						key = ""
					}
					publish(t, db.Pool, key, 0, perKey)
				}
				w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
				if err != nil {
					t.Fatal(err)
				}
				s := worker.Subscription{
					Name: "s", Topics: everything, Concurrency: limit, Timeout: 3 * time.Second, ParkAfter: 100 * time.Millisecond, BreakerAfter: worker.Unlimited,
					Retry: worker.Retry{MaxAttempts: 3, Delay: func(int) time.Duration { return 5 * time.Millisecond }},
				}
				var told ends
				s.AsyncMiddleware = []worker.AsyncMiddleware{told.middleware, told.middleware}
				if err := worker.HandleAsync(w, s, order, c.send); err != nil {
					t.Fatal(err)
				}
				stop := runUntilStopped(t, w)
				eventually(t, 120*time.Second, "all are delivered", func() bool {
					c.mu.Lock()
					n := len(c.seen)
					c.mu.Unlock()
					return n == keys*perKey && settledAll(t, db.Pool)
				})
				stop()
				told.check(t)
				if list := rows(t, db); len(list) != 0 {
					t.Errorf("left: %+v", list)
				}
				for key, ns := range c.delivered {
					if key != "" && !slices.IsSorted(ns) {
						t.Errorf("key %s was delivered as %v", key, ns)
					}
				}
				if limit > 0 && c.most > 3*limit { // of the window, deliveries, and what was parked while those ran
					t.Errorf("%d were in flight", c.most)
				}
				t.Logf("%d in flight at most, %d answers came twice, %d never", c.most, c.twice, c.never)
			})
		}
	}
}

// TestHoldAboveAnswers has a pipelined key fail with more events than may have a delivery, while later ones of its window succeed, at once or when they are parked: the
// key is not held from one of those that failed on, below them. Each is handled once.
func TestHoldAboveAnswers(t *testing.T) {
	t.Parallel()
	const events, bad, before = 300, 120, 2000
	for name, late := range map[string]time.Duration{"at once": 0, "parked": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			publishNumbered(t, db, before, func(i int) string { return fmt.Sprint(i) }) // so that windows are large by then
			var mu sync.Mutex
			others := 0
			succeeded, tried := map[int]int{}, map[int]bool{}
			w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
			if err != nil {
				t.Fatal(err)
			}
			s := worker.Subscription{
				Name: "s", Topics: everything, ParkAfter: 50 * time.Millisecond, BreakerAfter: worker.Unlimited,
				Retry: worker.Retry{Delay: func(int) time.Duration { return 5 * time.Millisecond }},
			}
			err = worker.HandleAsync(w, s, worker.Pipelined, func(_ context.Context, e *worker.Event[payload], done func(error)) {
				mu.Lock()
				defer mu.Unlock()
				if e.Key != "k" {
					others++
					done(nil)
					return
				}
				n, first := e.Payload.N, !tried[e.Payload.N]
				tried[n] = true
				switch {
				case first && n < bad:
					time.AfterFunc(20*time.Millisecond, func() { done(errors.New("no")) }) // when all are in flight
				case first && late > 0:
					time.AfterFunc(late, func() {
						mu.Lock()
						defer mu.Unlock()
						succeeded[n]++
						done(nil)
					})
				default:
					succeeded[n]++
					done(nil)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			runUntilStopped(t, w)
			eventually(t, 60*time.Second, "the others are handled", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return others == before
			})
			publish(t, db.Pool, "k", 0, events)
			eventually(t, 60*time.Second, "all are handled", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(succeeded) == events && settledAll(t, db.Pool)
			})
			mu.Lock()
			defer mu.Unlock()
			for n, times := range succeeded {
				if times > 1 {
					t.Errorf("event %d was handled %d times", n, times)
				}
			}
		})
	}
}

// TestAsyncHasNoGoroutines has a thousand events in flight for longer than a window lasts: there are no more goroutines than before.
func TestAsyncHasNoGoroutines(t *testing.T) { //nolint:paralleltest // it counts the goroutines of the process
	const all = 1000
	db := pgtest.New(t)
	publishNumbered(t, db, all, func(i int) string { return fmt.Sprint("key-", i) })
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	var begun atomic.Int64
	var mu sync.Mutex
	var waiting []func(error)
	err = worker.HandleAsync(w, worker.Subscription{Name: "s", Topics: everything, ParkAfter: 50 * time.Millisecond, Timeout: worker.Unlimited}, worker.Strict,
		func(_ context.Context, _ *worker.Event[payload], done func(error)) {
			mu.Lock()
			defer mu.Unlock()
			waiting = append(waiting, done)
			begun.Add(1)
		})
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	runUntilStopped(t, w)
	eventually(t, 30*time.Second, "all are parked", func() bool { return begun.Load() == all && len(rows(t, db)) == all })
	if n := runtime.NumGoroutine() - before; n > 50 {
		t.Errorf("%d goroutines for %d events", n, all)
	}
	mu.Lock()
	for _, done := range waiting {
		done(nil)
	}
	mu.Unlock()
	eventually(t, 30*time.Second, "all are delivered", func() bool { return settledAll(t, db.Pool) && len(rows(t, db)) == 0 })
}

// TestAsyncShutdown stops a worker whose client answers some events and not the others: those are handled again, those are not, and no
// attempt is counted.
func TestAsyncShutdown(t *testing.T) {
	t.Parallel()
	for _, order := range []worker.KeyOrder{worker.Strict, worker.Pipelined} {
		t.Run(fmt.Sprint("order ", order), func(t *testing.T) {
			t.Parallel()
			const all = 40
			db := pgtest.New(t)
			publishNumbered(t, db, all, func(i int) string { return fmt.Sprint("key-", i) })
			run := func(answer func(n int) bool) (stop func(), calls func() []int) {
				var mu sync.Mutex
				var ns []int
				w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), ShutdownTimeout: 100 * time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				err = worker.HandleAsync(w, worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{MaxAttempts: 1}}, order,
					func(_ context.Context, e *worker.Event[payload], done func(error)) {
						mu.Lock()
						ns = append(ns, e.Payload.N)
						mu.Unlock()
						if answer(e.Payload.N) {
							done(nil)
						}
					})
				if err != nil {
					t.Fatal(err)
				}
				return runUntilStopped(t, w), func() []int {
					mu.Lock()
					defer mu.Unlock()
					return slices.Sorted(slices.Values(ns))
				}
			}
			stop, calls := run(func(n int) bool { return n%2 == 0 })
			eventually(t, 30*time.Second, "all are in flight", func() bool { return len(calls()) == all })
			stop()
			var odd []int
			for n := 1; n < all; n += 2 {
				odd = append(odd, n)
			}
			_, calls = run(func(int) bool { return true })
			eventually(t, 30*time.Second, "the rest is delivered", func() bool { return settledAll(t, db.Pool) && len(rows(t, db)) == 0 })
			if again := calls(); !slices.Equal(again, odd) {
				t.Errorf("handled again: %v", again)
			}
		})
	}
}

// TestAsyncLastFew has an event in flight for long, and others come one after the other: none of them waits for it, although ParkAfter is longer than
// that. The next one of its key does.
func TestAsyncLastFew(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	slow := make(chan func(error), 2)
	var handled atomic.Int64
	s := worker.Subscription{Name: "s", Topics: everything, Timeout: 3 * time.Minute, ParkAfter: 2 * time.Minute}
	err = worker.HandleAsync(w, s, worker.Strict, func(_ context.Context, e *worker.Event[payload], done func(error)) {
		if e.Key == "slow" {
			slow <- done
			return
		}
		handled.Add(1)
		done(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	publish(t, db.Pool, "slow", 0, 1)
	release := <-slow
	for i := range int64(20) {
		publish(t, db.Pool, fmt.Sprint("key-", i), 0, 1)
		if i == 10 {
			publish(t, db.Pool, "slow", 1, 2)
		}
		eventually(t, 30*time.Second, "another one is handled", func() bool { return handled.Load() == i+1 })
	}
	if len(slow) > 0 {
		t.Error("two events of a key are in flight")
	}
	release(nil)
	(<-slow)(nil)
	eventually(t, 30*time.Second, "all are delivered", func() bool { return settledAll(t, db.Pool) && len(rows(t, db)) == 0 })
}

// TestAsyncAllUnanswered has a client lose more messages at once than may be parked: a window of which nothing may be parked until others return goes
// on when these have failed by their timeout.
func TestAsyncAllUnanswered(t *testing.T) {
	t.Parallel()
	for _, order := range []worker.KeyOrder{worker.Strict, worker.Pipelined} {
		t.Run(fmt.Sprint("order ", order), func(t *testing.T) {
			t.Parallel()
			const limit, lost, all = 2, 10, 20
			db := pgtest.New(t)
			publishNumbered(t, db, all, func(i int) string { return fmt.Sprint("key-", i) })
			w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
			if err != nil {
				t.Fatal(err)
			}
			s := worker.Subscription{
				Name: "s", Topics: everything, Concurrency: limit, Timeout: 100 * time.Millisecond, ParkAfter: 50 * time.Millisecond,
				BreakerAfter: worker.Unlimited, Retry: worker.Retry{Delay: func(int) time.Duration { return 5 * time.Millisecond }},
			}
			var calls atomic.Int64
			err = worker.HandleAsync(w, s, order, func(_ context.Context, _ *worker.Event[payload], done func(error)) {
				if calls.Add(1) > lost {
					done(nil)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			runUntilStopped(t, w)
			eventually(t, 60*time.Second, "all are delivered", func() bool { return settledAll(t, db.Pool) && len(rows(t, db)) == 0 })
			if n := calls.Load(); n != all+lost {
				t.Errorf("%d attempts at %d events, of which %d were lost", n, all, lost)
			}
		})
	}
}

// TestAsyncRefuses lists what cannot be registered.
func TestAsyncRefuses(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	w, err := worker.New(db.Pool, worker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	handler := func(context.Context, *worker.Event[payload], func(error)) {}
	around := func(next worker.Handler) worker.Handler { return next }
	for name, err := range map[string]error{
		"no order":   worker.HandleAsync(w, worker.Subscription{Name: "s"}, 0, handler),
		"middleware": worker.HandleAsync(w, worker.Subscription{Name: "s", Middleware: []worker.Middleware{around}}, worker.Strict, handler),
		"nil":        worker.HandleAsync(w, worker.Subscription{Name: "s", AsyncMiddleware: []worker.AsyncMiddleware{nil}}, worker.Strict, handler),
		"of another form": worker.Handle(w, worker.Subscription{Name: "s", AsyncMiddleware: []worker.AsyncMiddleware{new(ends).middleware}},
			func(context.Context, *worker.Event[payload]) error { return nil }),
		"no handler": worker.HandleAsync[payload](w, worker.Subscription{Name: "s"}, worker.Strict, nil),
	} {
		if !errors.Is(err, worker.ErrInvalidConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAsyncBehind has each event of a key fail once, where two attempts are all there are, and the client fail all that is behind it: only the
// event's own failure counts.
func TestAsyncBehind(t *testing.T) {
	t.Parallel()
	const all = 6
	db := pgtest.New(t)
	publish(t, db.Pool, "key", 0, all)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := worker.Subscription{Name: "s", Topics: everything, BreakerAfter: worker.Unlimited, Retry: worker.Retry{MaxAttempts: 2, Delay: func(int) time.Duration { return time.Millisecond }}}
	var mu sync.Mutex
	var flying []func(error)
	failed := map[int]bool{}
	err = worker.HandleAsync(w, s, worker.Pipelined, func(_ context.Context, e *worker.Event[payload], done func(error)) {
		mu.Lock()
		defer mu.Unlock()
		if flying = append(flying, done); len(flying) < all-len(failed) && len(failed) == 0 {
			return // all of them are in flight when the first one fails
		}
		first := e.Payload.N - len(flying) + 1
		if own := !failed[first]; own {
			failed[first] = true
			for _, done := range slices.Backward(flying) {
				done(errors.New("the first of them has failed"))
			}
		} else {
			for _, done := range flying {
				done(nil)
			}
		}
		flying = nil
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	eventually(t, 30*time.Second, "all are delivered", func() bool { return settledAll(t, db.Pool) })
	if list := rows(t, db); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
}
