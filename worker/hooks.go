package worker

import "github.com/signalbox-go/signalbox/outbox"

// Hooks are called when something becomes of events or workers, for metrics and the like. Those left nil are not. They run
// between windows and hold them up, so they must be quick; and from several goroutines, so they must be safe for
// concurrent use.
type Hooks struct {
	// Attempt is called when an attempt at an event has ended, before that is recorded.
	Attempt func(Attempt)
	// Parked is called when an event takes longer than ParkAfter and gets a row of its own.
	Parked func(subscription string, e *outbox.Event)
	// Evicted is called in the worker that evicted another one, which was dead.
	Evicted func(worker int64)
}

// An Attempt is one that has ended.
type Attempt struct {
	Subscription string
	Event        *outbox.Event
	Number       int          // from 1
	State        outbox.State // what the event is in now; "" when it is delivered
	Err          error        // nil when it is delivered
}
