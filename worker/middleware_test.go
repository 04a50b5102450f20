package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

type contextKey struct{}

// wrapped are the forms that take middleware.
var wrapped = slices.DeleteFunc(slices.Clone(forms), func(f form) bool { return f.name == "async" })

// TestMiddleware has two of them around each form: in order, with the subscription, the events and the attempt, able to change the context
// and the error.
func TestMiddleware(t *testing.T) {
	t.Parallel()
	for _, f := range wrapped {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			publish(t, db.Pool, "", 1, 4)
			errTwo := errors.New("two")
			var calls, translated atomic.Int64
			s := worker.Subscription{Name: "s", Topics: everything, Middleware: []worker.Middleware{
				func(next worker.Handler) worker.Handler {
					return func(ctx context.Context, c worker.Call) error {
						calls.Add(int64(len(c.Events)))
						if c.Subscription != "s" || c.MaxAttempts != 7 || len(c.Events) == 0 || c.Attempt > 1 && len(c.Events) != 1 {
							t.Errorf("the call is %+v", c)
						}
						err := next(context.WithValue(ctx, contextKey{}, "outer"), c)
						if errors.Is(err, errTwo) && len(c.Events) == 1 && c.Attempt == 2 {
							translated.Add(1)
							return worker.DeadLetter(fmt.Errorf("translated: %w", err))
						}
						return err
					}
				},
				func(next worker.Handler) worker.Handler {
					return func(ctx context.Context, c worker.Call) error {
						if ctx.Value(contextKey{}) != "outer" {
							t.Error("the first middleware is not the outer one")
						}
						return next(context.WithValue(ctx, contextKey{}, c), c)
					}
				},
			}, Retry: worker.Retry{MaxAttempts: 7, Delay: func(int) time.Duration { return time.Millisecond }}}
			var done sync.Map
			stop := startForm(t, db, f, s, func(ctx context.Context, _ execer, e *worker.Event[payload]) error {
				c, ok := ctx.Value(contextKey{}).(worker.Call)
				switch {
				case !ok:
					t.Error("the handler's context is not that of the middleware")
				case c.Attempt != e.Attempt || !slices.ContainsFunc(c.Events, func(other *outbox.Event) bool { return other.ID == e.ID }):
					t.Errorf("event %d in attempt %d is handled in a call of %d events in attempt %d", e.ID, e.Attempt, len(c.Events), c.Attempt)
				}
				if e.Payload.N == 2 {
					return errTwo
				}
				done.Store(e.Payload.N, true)
				return nil
			})
			eventually(t, 20*time.Second, "two are done and one is dead", func() bool {
				_, one := done.Load(1)
				_, three := done.Load(3)
				list := rows(t, db)
				return one && three && len(list) == 1 && list[0].N == 2 && list[0].State == "dead"
			})
			stop()
			if calls.Load() < 3 || translated.Load() == 0 {
				t.Errorf("the middleware saw %d events and translated %d errors", calls.Load(), translated.Load())
			}
		})
	}
}

// TestMiddlewarePanics has one panic around each form, before and after the handler: that is the failure of an attempt.
func TestMiddlewarePanics(t *testing.T) {
	t.Parallel()
	for _, f := range wrapped {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, before %v", f.name, before), func(t *testing.T) {
				t.Parallel()
				db := pgtest.New(t)
				publish(t, db.Pool, "", 1, 2)
				s := worker.Subscription{
					Name: "s", Topics: everything,
					Retry: worker.Retry{MaxAttempts: 2, Delay: func(int) time.Duration { return time.Millisecond }},
					Middleware: []worker.Middleware{func(next worker.Handler) worker.Handler {
						return func(ctx context.Context, c worker.Call) error {
							if before {
								panic("of the middleware")
							}
							_ = next(ctx, c)
							panic("of the middleware")
						}
					}},
				}
				startForm(t, db, f, s, func(context.Context, execer, *worker.Event[payload]) error { return nil })
				eventually(t, 20*time.Second, "it is dead", func() bool {
					list := rows(t, db)
					return len(list) == 1 && list[0].State == "dead" && strings.Contains(list[0].Errors[1].Error, "panicked: of the middleware")
				})
			})
		}
	}
}

// TestMiddlewareWithOtherCall has one call next with a Call of its own: that is the failure of an attempt.
func TestMiddlewareWithOtherCall(t *testing.T) {
	t.Parallel()
	for _, f := range wrapped {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			publish(t, db.Pool, "", 1, 2)
			s := worker.Subscription{
				Name: "s", Topics: everything, Retry: worker.Retry{MaxAttempts: 1},
				Middleware: []worker.Middleware{func(next worker.Handler) worker.Handler {
					return func(ctx context.Context, c worker.Call) error { return next(ctx, worker.Call{Events: c.Events}) }
				}},
			}
			startForm(t, db, f, s, func(context.Context, execer, *worker.Event[payload]) error {
				t.Error("the handler was called")
				return nil
			})
			eventually(t, 20*time.Second, "it is dead", func() bool {
				list := rows(t, db)
				return len(list) == 1 && list[0].State == "dead" && strings.Contains(list[0].Errors[0].Error, "another Call")
			})
		})
	}
}

// TestHooks counts what they are told, beside others that break.
func TestHooks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var mu sync.Mutex
	told := map[string]int{}
	tell := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		told[what]++
	}
	of := func(ctx context.Context) {
		if ctx.Value(contextKey{}) != "of Run" {
			tell("without the context of Run")
		}
	}
	const parkAfter = 2 * time.Second // no other one takes as long, even on a busy machine
	parked := make(chan struct{})
	var woken, events, deliveries, others atomic.Int64
	hooks := worker.Hooks{
		AttemptEnded: func(ctx context.Context, a worker.Attempt) {
			of(ctx)
			tell(fmt.Sprintf("attempt %d %q", a.Number, a.State))
			if a.Event.ID == 3 && a.Duration < parkAfter/2 {
				tell("too quick") // this one's handler takes until it is parked
			}
			if ago := time.Since(a.EndedAt); ago < 0 || ago > time.Minute {
				tell("ended at another time")
			}
		},
		EventParked: func(ctx context.Context, p worker.ParkedEvent) {
			of(ctx)
			tell(fmt.Sprintf("parked event %d of %s in attempt %d", p.Event.ID, p.Subscription, p.Attempt))
			if p.Event.ID == 3 {
				close(parked)
			}
		},
		WorkerEvicted: func(ctx context.Context, e worker.Eviction) {
			of(ctx)
			tell(fmt.Sprint("evicted ", e.WorkerID))
		},
		WokenUp: func(ctx context.Context) {
			of(ctx)
			woken.Add(1)
		},
		WindowHandled: func(ctx context.Context, w worker.Window) {
			of(ctx)
			events.Add(int64(w.Events))
			deliveries.Add(int64(w.Deliveries))
		},
	}
	// Beside them, one that breaks each time and one that has a single hook.
	broken := worker.Hooks{
		AttemptEnded:  func(context.Context, worker.Attempt) { panics() },
		EventParked:   func(context.Context, worker.ParkedEvent) { panics() },
		WorkerEvicted: func(context.Context, worker.Eviction) { panics() },
		WokenUp:       func(context.Context) { panics() },
		WindowHandled: func(context.Context, worker.Window) { panics() },
	}
	single := worker.Hooks{AttemptEnded: func(context.Context, worker.Attempt) { others.Add(1) }}
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), Hooks: []worker.Hooks{broken, hooks, single}})
	if err != nil {
		t.Fatal(err)
	}
	s := worker.Subscription{
		Name: "s", Topics: everything, ParkAfter: parkAfter,
		Retry: worker.Retry{MaxAttempts: 2, Delay: func(int) time.Duration { return time.Millisecond }},
	}
	// Somebody joined and is gone without a word.
	gone, err := db.Pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn := gone.Hijack()
	id, err := engine.Join(t.Context(), conn, "gone", true, time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = worker.Handle(w, s, func(ctx context.Context, e *worker.Event[payload]) error {
		switch e.Payload.N {
		case 1:
			return errors.New("no")
		case 2:
			return worker.Skip("no")
		case 3:
			select {
			case <-parked:
			case <-ctx.Done():
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	publish(t, db.Pool, "", 1, 6)
	want := map[string]int{
		`attempt 1 ""`: 3, `attempt 1 "retrying"`: 1, `attempt 2 "dead"`: 1, `attempt 1 "skipped"`: 1, "parked event 3 of s in attempt 1": 1,
		fmt.Sprint("evicted ", id): 1,
	}
	eventually(t, 20*time.Second, "all is told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return fmt.Sprint(told) == fmt.Sprint(want)
	})
	eventually(t, 20*time.Second, "the last window is told", func() bool { return events.Load() == 5 && deliveries.Load() == 1 })
	if woken.Load() == 0 || others.Load() != 6 {
		t.Errorf("woken up %d times; another hook heard of %d attempts", woken.Load(), others.Load())
	}
}
