package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/guard"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// A treacherous error breaks in one of its methods.
type treacherous struct {
	in     string
	broken func()
}

func (e *treacherous) maybe(method string) {
	if e.in == method { // a nil e panics here
		e.broken()
	}
}

func (e *treacherous) Error() string { e.maybe("Error"); return "treacherous" }
func (e *treacherous) As(any) bool   { e.maybe("As"); return false }
func (e *treacherous) Is(error) bool { e.maybe("Is"); return false }
func (e *treacherous) Unwrap() error { e.maybe("Unwrap"); return nil }
func panics()                        { panic("out of order") }
func goexits()                       { runtime.Goexit() }
func misbehave(what string) (e error) {
	switch what {
	case "panic":
		panics()
	case "goexit":
		goexits()
	case "typed nil":
		var none *treacherous
		return none
	}
	method, how, _ := strings.Cut(what, " ")
	if how == "panics" {
		return &treacherous{method, panics}
	}
	return &treacherous{method, goexits}
}

// TestGuard has one event of each key misbehave twice, each key in its own way, in each form. It is tried again, with the reason, and
// handled in the end, in its place; the events of another key do not wait.
func TestGuard(t *testing.T) {
	t.Parallel()
	const perKey, bad = 6, 2
	reasons := map[string]string{
		"panic": "handler panicked: out of order", "goexit": "runtime.Goexit", "typed nil": "handler panicked", "Error panics": "handler panicked: out of order",
		"Error goexits": "runtime.Goexit", "As panics": "handler panicked: out of order", "As goexits": "runtime.Goexit", "Unwrap panics": "handler panicked: out of order",
		"Is panics": "treacherous", // nothing calls it
		"well":      "",
	}
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			l := newLedger()
			for key := range reasons {
				publish(t, db.Pool, key, 0, perKey)
			}
			failed := map[string]int{}
			found := map[string]string{}
			var mu sync.Mutex
			s := worker.Subscription{Name: "s", Topics: everything, BreakerAfter: worker.Unlimited, Retry: worker.Retry{InitialInterval: 10 * time.Millisecond, Multiplier: 1}}
			startForm(t, db, f, s, func(ctx context.Context, _ execer, e *worker.Event[payload]) error {
				if e.Key == "well" || e.Payload.N != bad {
					l.add(e)
					return nil
				}
				mu.Lock()
				again := failed[e.Key] >= 2
				if f.name == "batch" {
					again = e.Attempt > 6 // by then each has come alone, with a reason of its own
				}
				if again && found[e.Key] == "" {
					var text *string
					_ = db.Pool.QueryRow(ctx, `select d.errors -> -1 ->> 'error' from outbox.deliveries d where d.event_id = $1`, e.ID).Scan(&text)
					if text != nil {
						found[e.Key] = *text
					}
				}
				failed[e.Key]++
				mu.Unlock()
				if again && e.Attempt > 1 {
					l.add(e)
					return nil
				}
				return misbehave(e.Key)
			})
			eventually(t, 60*time.Second, "all is settled", func() bool {
				l.mu.Lock()
				n := len(l.events)
				l.mu.Unlock()
				return n >= perKey*len(reasons) && settledAll(t, db.Pool) && len(rows(t, db)) == 0
			})
			next := map[string]int{}
			for _, e := range l.all() {
				if e.Payload.N > next[e.Key] && f.name != "batch" { // which says itself what it has handled
					t.Fatalf("%s: %d was handled before %d", e.Key, e.Payload.N, next[e.Key])
				}
				next[e.Key] = max(next[e.Key], e.Payload.N+1)
			}
			for key, reason := range reasons {
				if next[key] != perKey {
					t.Errorf("%s: handled up to %d", key, next[key])
				}
				if key != "well" && !strings.Contains(found[key], reason) {
					t.Errorf("%s: the reason is %q, want %q", key, found[key], reason)
				}
			}
		})
	}
}

// A hostile payload breaks when it is decoded.
type hostile struct{ N int }

var hostility atomic.Pointer[func()]

func (h *hostile) UnmarshalJSON(raw []byte) error {
	type plain hostile
	if err := json.Unmarshal(raw, (*plain)(h)); err != nil {
		return err
	}
	if h.N == 1 {
		(*hostility.Load())()
	}
	return nil
}

// TestGuardDecoding has the payload of one event break its decoder, in each form.
func TestGuardDecoding(t *testing.T) {
	for name, how := range map[string]func(){"panics": panics, "goexits": goexits} {
		hostility.Store(&how)
		for form, register := range map[string]func(*worker.Worker, worker.Subscription, func()) error{
			"each": func(w *worker.Worker, s worker.Subscription, handled func()) error {
				return worker.Handle(w, s, func(context.Context, *worker.Event[hostile]) error { handled(); return nil })
			},
			"batch": func(w *worker.Worker, s worker.Subscription, handled func()) error {
				return worker.HandleBatch(w, s, func(_ context.Context, events []*worker.Event[hostile]) error {
					for range events {
						handled()
					}
					return nil
				})
			},
		} {
			t.Run(form+" "+name, func(t *testing.T) {
				db := pgtest.New(t)
				for n := range 3 {
					if _, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: "a", Payload: json.RawMessage(fmt.Sprintf(`{"n": %d}`, n))}); err != nil {
						t.Fatal(err)
					}
				}
				w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
				if err != nil {
					t.Fatal(err)
				}
				var handled atomic.Int64
				s := worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{MaxAttempts: 2, InitialInterval: 10 * time.Millisecond}}
				if err := register(w, s, func() { handled.Add(1) }); err != nil {
					t.Fatal(err)
				}
				runUntilStopped(t, w)
				eventually(t, 30*time.Second, "it is dead, and the others are handled", func() bool {
					list := rows(t, db)
					return handled.Load() == 2 && len(list) == 1 && list[0].State == string(outbox.Dead) && list[0].Attempt == 2
				})
			})
		}
	}
}

// TestGuardCallbacks breaks Retry.Delay, every hook and the Logger: events are handled all the same, and faults of hooks counted.
func TestGuardCallbacks(t *testing.T) {
	for name, how := range map[string]func(){"panics": panics, "goexits": goexits} {
		t.Run(name, func(t *testing.T) {
			db := pgtest.New(t)
			before := guard.Faults(guard.Hook)
			hooks := worker.Hooks{
				WindowHandled: func(context.Context, worker.Window) { how() },
				AttemptEnded:  func(context.Context, worker.Attempt) { how() },
				EventParked:   func(context.Context, worker.ParkedEvent) { how() },
				WokenUp:       func(context.Context) { how() },
				WorkerEvicted: func(context.Context, worker.Eviction) { how() },
			}
			s := worker.Subscription{
				Name: "s", Topics: everything, ParkAfter: 20 * time.Millisecond,
				Retry: worker.Retry{InitialInterval: 10 * time.Millisecond, Delay: func(int) time.Duration { how(); return 0 }},
			}
			l := newLedger()
			start(t, db.Pool, worker.Config{Hooks: []worker.Hooks{hooks}}, s, func(_ context.Context, e *worker.Event[payload]) error {
				switch {
				case e.Payload.N == 1 && e.Attempt == 1:
					return errors.New("once")
				case e.Payload.N == 2:
					time.Sleep(100 * time.Millisecond) // is parked
				}
				l.add(e)
				return nil
			})
			publish(t, db.Pool, "", 0, 4)
			l.waitFor(t, 4)
			eventually(t, 20*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) && len(rows(t, db)) == 0 })
			if faults := guard.Faults(guard.Hook) - before; faults < 6 { // attempts, a window, the parked one, the bell
				t.Errorf("%d faults were counted", faults)
			}
		})
	}
}

// TestMiddlewareWraps has middleware wrap the error of PerEvent: only the event that failed is tried again.
func TestMiddlewareWraps(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publish(t, db.Pool, "", 0, 10)
	var calls [10]atomic.Int64
	wrap := func(next worker.Handler) worker.Handler {
		return func(ctx context.Context, c worker.Call) error {
			if err := next(ctx, c); err != nil {
				return fmt.Errorf("wrapped: %w", err)
			}
			return nil
		}
	}
	s := worker.Subscription{Name: "s", Topics: everything, Middleware: []worker.Middleware{wrap}, Retry: worker.Retry{InitialInterval: 10 * time.Millisecond}}
	startForm(t, db, formNamed("batch"), s, func(_ context.Context, _ execer, e *worker.Event[payload]) error {
		if calls[e.Payload.N].Add(1) == 1 && e.Payload.N == 4 {
			return errors.New("once")
		}
		return nil
	})
	eventually(t, 20*time.Second, "all is settled", func() bool { return calls[4].Load() == 2 && settledAll(t, db.Pool) && len(rows(t, db)) == 0 })
	for n := range calls {
		if got := calls[n].Load(); got != 1 && n != 4 {
			t.Errorf("event %d was handled %d times", n, got)
		}
	}
}
