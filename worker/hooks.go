package worker

import (
	"time"

	"github.com/signalbox-go/signalbox/internal/guard"
	"github.com/signalbox-go/signalbox/outbox"
)

// Hooks are called when something happens to events or workers, for metrics and the like. Nil ones are not called. They hold up
// the windows between which they are called, so they must be quick. They are called from several goroutines, so they must be
// safe for concurrent use. One that panics, or ends its goroutine, is counted (see package metrics) and
// costs nothing but a line in the log, at most one a second for each hook.
type Hooks struct {
	// Window is called when a window has been handled, with the deliveries that were due beside it.
	Window func(Window)
	// Attempt is called when an attempt at an event has ended, before that is recorded.
	Attempt func(Attempt)
	// Parked is called when an event takes longer than ParkAfter and gets a row of its own.
	Parked func(subscription string, e *outbox.Event)
	// Rung is called when the doorbell wakes the worker.
	Rung func()
	// Evicted is called in the worker that evicted another one, which was dead.
	Evicted func(worker int64)
}

// A Window is one that has been handled.
type Window struct {
	Subscription string
	Events       int           // read from the log
	Deliveries   int           // tried again, or for the first time after they had to wait
	Took         time.Duration // until the last handler returned, or was parked
}

// An Attempt is one that has ended.
type Attempt struct {
	Subscription string
	Event        *outbox.Event
	Number       int           // from 1
	State        outbox.State  // the state of the event's delivery from now on; "" when the event is delivered
	Err          error         // nil when it is delivered
	Took         time.Duration // in the handler; of several events that were handled together, the time for all of them
	Ended        time.Time     // when the handler returned; zero where none was called, because the last attempt killed its worker
}

// tellAttempts calls the hook for the attempts that have ended. They share a goroutine: one for each would cost more than handling a
// small event.
func (r *runner) tellAttempts() {
	list := r.attempts
	r.attempts = r.attempts[:0]
	for i := 0; i < len(list); i++ {
		guard.CallHook(r.log, "Attempt", func() {
			for ; i < len(list); i++ {
				r.cfg.Hooks.Attempt(list[i])
			}
		})
	}
	clear(list)
}
