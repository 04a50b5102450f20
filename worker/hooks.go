package worker

import (
	"context"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/internal/guard"
	"github.com/signalbox-go/signalbox/outbox"
)

// Hooks observe events and workers, for example to count them. Nil fields are not called.
//
// The worker waits until a hook returns before it reads on, so hooks must be quick. They are called from several goroutines and must be
// safe for concurrent use. The context has the values of Run's context, and is cancelled at the latest when the worker stops or loses
// its connection. If a hook panics or calls runtime.Goexit, the worker logs that, counts it (see package metrics) and continues; at most one
// line a second is logged for each hook.
type Hooks struct {
	// WindowHandled is called when each handler of a window, and of the deliveries that were due with it, has returned or is parked.
	WindowHandled func(ctx context.Context, w Window)

	// AttemptEnded is called when an attempt at an event has ended, before the result is recorded.
	AttemptEnded func(ctx context.Context, a Attempt)

	// EventParked is called when an attempt takes longer than ParkAfter, so that the event becomes a delivery.
	EventParked func(ctx context.Context, p ParkedEvent)

	// BreakerChanged is called when the circuit breaker of a subscription, or of a topic of it, opens in this worker, because nearly every attempt has
	// failed or one has returned [Outage], and when it closes. That of the subscription takes the place of those of its topics. A worker that stops, or loses its connection, while it is open does not say that it closes.
	BreakerChanged func(ctx context.Context, b BreakerState)

	// WokenUp is called when a notification wakes the worker.
	WokenUp func(ctx context.Context)

	// WorkerEvicted is called when this worker has evicted another worker, which was dead.
	WorkerEvicted func(ctx context.Context, e Eviction)
}

// A Window describes a handled window: a run of events that were read in one go.
type Window struct {
	Subscription string        // its name
	Events       int           // events that were read from the log
	Deliveries   int           // deliveries that were handled with them: tried again, or for the first time after they had to wait
	Duration     time.Duration // until the last handler returned or was parked
}

// An Attempt describes an attempt at an event that has ended.
type Attempt struct {
	Subscription string        // its name
	Event        *outbox.Event // must not be modified
	Number       int           // number of the attempt, from 1
	State        outbox.State  // the new state of the event's delivery; "" if the event is delivered
	Err          error         // why the attempt failed; nil if the event is delivered
	Duration     time.Duration // of the handler's call, which may be for several events
	EndedAt      time.Time     // when the handler returned; zero if it was not called, because the last attempt ended with its worker
}

// A ParkedEvent describes an event whose handler continues while its window is settled without it.
type ParkedEvent struct {
	Subscription string        // its name
	Event        *outbox.Event // must not be modified
	Attempt      int           // number of the attempt, from 1
}

// A BreakerState describes a circuit breaker that has opened or closed. See Subscription.BreakerAfter.
type BreakerState struct {
	Subscription string    // its name
	Topic        string    // the topic that it is about; "" where that is the whole subscription
	Open         bool      // whether it is open now
	At           time.Time // when it opened or closed, by the worker's clock
	Cause        error     // why the attempt that opened it failed; nil once it is closed
}

// An Eviction describes the eviction of a dead worker: its lanes are free for others.
type Eviction struct {
	WorkerID int64 // id of the dead worker, as in "outbox status"
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

// tellBreaker calls the hooks for a breaker that has opened or closed.
func (r *runner) tellBreaker(ctx context.Context, b BreakerState) {
	for _, h := range r.cfg.Hooks {
		if h.BreakerChanged != nil {
			guard.CallHook(r.log, "BreakerChanged", func() { h.BreakerChanged(ctx, b) })
		}
	}
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
