package worker

import (
	"context"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/internal/guard"
	"github.com/signalbox-go/signalbox/outbox"
)

// Hooks observe events and workers, for metrics and the like. Fields that are nil are not called.
//
// The worker waits for hooks between windows, so they must be quick. Several goroutines call them, so they must be safe for
// concurrent use. Their context has the values of the one that Run got, and is cancelled when the worker stops, or loses its
// connection. A hook that panics or calls runtime.Goexit changes nothing: the worker logs that, and counts it; see package metrics.
type Hooks struct {
	// WindowHandled is called after the handlers of a window, and of the deliveries that were due beside it, have returned.
	WindowHandled func(ctx context.Context, w Window)
	// AttemptEnded is called when an attempt at an event has ended, before that is recorded.
	AttemptEnded func(ctx context.Context, a Attempt)
	// EventParked is called when an event takes longer than ParkAfter and becomes a delivery.
	EventParked func(ctx context.Context, p ParkedEvent)
	// WokenUp is called when the doorbell wakes the worker.
	WokenUp func(ctx context.Context)
	// WorkerEvicted is called after the worker has evicted another one, which was dead.
	WorkerEvicted func(ctx context.Context, e Eviction)
}

// A Window is one that has been handled.
type Window struct {
	Subscription string
	Events       int           // read from the log
	Deliveries   int           // tried again, or for the first time after they had to wait
	Duration     time.Duration // until the last handler returned, or was parked
}

// An Attempt is one that has ended.
type Attempt struct {
	Subscription string
	Event        *outbox.Event // must not be changed
	Number       int           // from 1
	State        outbox.State  // the state of the event's delivery from now on; "" when the event is delivered
	Err          error         // nil when it is delivered
	Duration     time.Duration // in the handler; of several events that were handled together, the time for all of them
	EndedAt      time.Time     // when the handler returned; zero where none was called, because the last attempt killed its worker
}

// A ParkedEvent is an event whose handler goes on while its window is settled without it.
type ParkedEvent struct {
	Subscription string
	Event        *outbox.Event // must not be changed
	Attempt      int           // number of the attempt, from 1
}

// An Eviction is that of a dead worker, whose lanes are free now.
type Eviction struct {
	WorkerID int64 // as in "outbox status"
}

// tellWindow calls the hooks for a window that has been handled.
func (r *runner) tellWindow(ctx context.Context, events, deliveries int, took time.Duration) {
	for _, h := range r.cfg.Hooks {
		if h.WindowHandled != nil {
			guard.CallHook(r.log, "WindowHandled", func() {
				h.WindowHandled(ctx, Window{Subscription: r.sub.Name, Events: events, Deliveries: deliveries, Duration: took})
			})
		}
	}
}

// tellParked calls the hooks for a job that has been parked.
func (r *runner) tellParked(ctx context.Context, j *job) {
	for _, h := range r.cfg.Hooks {
		if h.EventParked != nil {
			guard.CallHook(r.log, "EventParked", func() {
				h.EventParked(ctx, ParkedEvent{Subscription: r.sub.Name, Event: &j.event.Event, Attempt: j.attempt})
			})
		}
	}
}

// tellsAttempts reports whether attempts have to be kept for a hook.
func (r *runner) tellsAttempts() bool {
	return slices.ContainsFunc(r.cfg.Hooks, func(h Hooks) bool { return h.AttemptEnded != nil })
}

// tellAttempts calls the hooks for the attempts that have ended. They share a goroutine: one for each would cost more than handling a
// small event.
func (r *runner) tellAttempts(ctx context.Context) {
	list := r.attempts
	r.attempts = r.attempts[:0]
	for _, h := range r.cfg.Hooks {
		for i := 0; i < len(list) && h.AttemptEnded != nil; i++ {
			guard.CallHook(r.log, "AttemptEnded", func() {
				for ; i < len(list); i++ {
					h.AttemptEnded(ctx, list[i])
				}
			})
		}
	}
	clear(list)
}

// tellWokenUp calls the hooks for a ring of the doorbell.
func (s *session) tellWokenUp(ctx context.Context) {
	for _, h := range s.w.cfg.Hooks {
		if h.WokenUp != nil {
			guard.CallHook(s.w.cfg.Logger, "WokenUp", func() { h.WokenUp(ctx) })
		}
	}
}

// tellEvicted calls the hooks for a worker that was evicted.
func (s *session) tellEvicted(ctx context.Context, id int64) {
	for _, h := range s.w.cfg.Hooks {
		if h.WorkerEvicted != nil {
			guard.CallHook(s.w.cfg.Logger, "WorkerEvicted", func() { h.WorkerEvicted(ctx, Eviction{WorkerID: id}) })
		}
	}
}
