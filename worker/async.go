package worker

import (
	"context"
	"fmt"

	"github.com/signalbox-go/signalbox/outbox"
)

// A KeyOrder says how [HandleAsync] keeps the events of a key in order.
type KeyOrder int

const (
	// Strict begins an event of a key when the one before it has been answered.
	Strict KeyOrder = iota + 1

	// Pipelined begins events of a key one after the other, in order, without waiting for answers. It is for clients that fail all that is behind
	// a message that failed, such as Kafka's idempotent producer, also what is on its way to them while the failure is on its way to the
	// worker: until that message comes again. These answers count as no attempt, and their events are handled again, behind the first one
	// unless that is given up. Where an event succeeds although one before it has failed, it is delivered, and out of order.
	Pipelined
)

// asyncConcurrency is how many events of HandleAsync are in flight by default: each costs some memory, and no goroutine.
const asyncConcurrency = 1000

// HandleAsync registers a handler that begins to handle an event and reports later what became of it, by a call of done: for clients that
// have many messages in flight, such as those of message brokers. Like [Handle], it is at least once, in order by key, and returns the same
// errors; what Handle makes of the error that a handler returns, HandleAsync makes of done's.
//
// The handler is called by one goroutine at a time for the events of a window, and by others for deliveries. It should return soon, and may
// block while its client has as much in flight as it wants. done may be called from any goroutine, also before the handler returns. Only
// the first call counts. An attempt that is not answered within Timeout and a few seconds has failed, and a later answer is ignored. So does
// one whose handler panics or calls runtime.Goexit before it is answered. When the context ends, the handler should see to it that done is
// called soon.
//
// Subscription.Concurrency is how many events are in flight, and how many more of deliveries and slow events; it defaults to 1000, whatever Config.Concurrency
// is. Events in flight cost no goroutine. ParkAfter is at most Timeout; with Strict, the last few events of a window are parked when they have
// taken twice as long as usual, and others wait. Middleware is an error, since it would see beginnings only: use AsyncMiddleware.
func HandleAsync[T any](w *Worker, s Subscription, order KeyOrder, handler func(ctx context.Context, e *Event[T], done func(error))) error {
	r, p := registration{Subscription: s, pipelined: order == Pipelined}, payloadsOf(&s)
	switch {
	case order != Strict && order != Pipelined:
		return fmt.Errorf("%w: subscription %q: order is %d, must be Strict or Pipelined", ErrInvalidConfig, s.Name, order)
	case len(s.Middleware) > 0:
		return fmt.Errorf("%w: subscription %q: HandleAsync takes no Middleware: use AsyncMiddleware", ErrInvalidConfig, s.Name)
	}
	if r.Concurrency == 0 {
		r.Concurrency = asyncConcurrency
	}
	if handler != nil {
		r.begin = func(ctx context.Context, raw *outbox.Event, attempt int, f *flight) error {
			var e Event[T]
			if err := e.decode(p, raw, attempt); err != nil {
				return err
			}
			handler(ctx, &e, f.done)
			return nil
		}
	}
	return w.register(r)
}

// A beginFunc begins an attempt. What it returns is its answer, unless that is nil.
type beginFunc func(ctx context.Context, e *outbox.Event, attempt int, f *flight) error

// errUnanswered is why an attempt failed whose answer never came.
var errUnanswered = &failure{text: "the handler has not called done in time", err: errAttemptTimeout}
