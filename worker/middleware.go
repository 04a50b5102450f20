package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/guard"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Handler is a handler of any form but HandleAsync, as middleware sees it. It returns the error of the handler, or nil.
type Handler func(ctx context.Context, c Call) error

// Middleware wraps a handler of any form but HandleAsync, for example to log, trace or measure its calls. It is called once, at registration. The
// Handler that it returns must be safe for concurrent use. It may replace the context and the error. It must call next at most once, with the
// Call that it received; any other Call is an error.
type Middleware func(next Handler) Handler

// AsyncMiddleware is for [HandleAsync] what Middleware is for the other forms. It is called when an attempt begins, before the handler, and returns
// the context that the handler is called with, and a function that is called when it is known what became of the attempt: with the error
// that done was called with, or why the attempt failed otherwise, such as a panic or an answer that never came; nil if the event is
// delivered. The function may be nil. It is called once, by the goroutine that calls done or by one of the worker's, and must be quick. If it
// panics, that is logged and counted, as with [Hooks]. It must not call runtime.Goexit: that would end the client's goroutine that calls done.
//
// The first AsyncMiddleware of a subscription is the outermost: it begins first, and is told last. AsyncMiddleware must be safe for concurrent use.
type AsyncMiddleware func(ctx context.Context, c Call) (context.Context, func(err error))

// A Call describes one call of a handler.
type Call struct {
	// Subscription is the name of the subscription.
	Subscription string

	// Events are the events of the call, with undecoded payloads: one or more for HandleBatch and HandleBatchTx, else exactly one. They
	// must not be modified.
	Events []*outbox.Event

	// Attempt is the number of this attempt, from 1, at the first of the events. With HandleBatch, those that are tried again come together,
	// and may have had different numbers of attempts. The same number comes again after a crash, after Snooze or PauseFor, and in an
	// outage: see Subscription.BreakerAfter.
	Attempt int

	// MaxAttempts is Retry.MaxAttempts of the subscription. An event becomes a dead letter if the attempt with this number fails. It
	// may be Unlimited.
	MaxAttempts int

	// Outgoing is the message that a relay is about to send, if it is known where: see package relay. Else nil.
	Outgoing *Outgoing

	handle func(context.Context) error // calls the handler
}

// An Outgoing describes the message that a relay makes of an event.
type Outgoing struct {
	// System is the kind of system that the message goes to, as OpenTelemetry's semantic conventions name it: kafka, nats, rabbitmq, webhook.
	System string

	// Destination is where the message goes, as these conventions name it for the system.
	Destination string

	// Template is what Destination was made by, if it differs by key.
	Template string

	// Attributes are what else these conventions have of the system's messages.
	Attributes []slog.Attr

	// Headers are those of the message. AsyncMiddleware may change them before it returns.
	Headers map[string]string
}

// errOtherCall says that middleware has made a Call.
var errOtherCall = errors.New("middleware called next with another Call than it got")

// wrap puts the middleware around a handler, the first one outermost.
func (r *registration) wrap() error {
	switch {
	case r.begin != nil:
		r.wrapBegin()
		return nil
	case len(r.AsyncMiddleware) > 0:
		return fmt.Errorf("%w: subscription %q: AsyncMiddleware is for HandleAsync alone: use Middleware", ErrInvalidConfig, r.Name)
	case len(r.Middleware) == 0:
		return nil
	}
	handler := Handler(func(ctx context.Context, c Call) error {
		if c.handle == nil {
			return errOtherCall
		}
		return c.handle(ctx)
	})
	for i := len(r.Middleware) - 1; i >= 0; i-- {
		if handler = r.Middleware[i](handler); handler == nil {
			return fmt.Errorf("%w: subscription %q: Middleware returned nil", ErrInvalidConfig, r.Name)
		}
	}
	name, attempts := r.Name, r.maxAttempts()
	call := func(ctx context.Context, attempt int, handle func(context.Context) error, events ...*outbox.Event) error {
		return handler(ctx, Call{Subscription: name, Events: events, Attempt: attempt, MaxAttempts: attempts, handle: handle})
	}
	if each := r.each; each != nil {
		r.each = func(ctx context.Context, e *outbox.Event, attempt int) error {
			return call(ctx, attempt, func(ctx context.Context) error { return each(ctx, e, attempt) }, e)
		}
		return nil
	}
	many := r.many
	r.many = func(ctx context.Context, tx pgx.Tx, jobs []*job) {
		events := make([]*outbox.Event, len(jobs))
		for i, j := range jobs {
			events[i] = &j.event.Event
		}
		handle := func(ctx context.Context) error {
			many(ctx, tx, jobs)
			return failuresOf(jobs)
		}
		spread(func() error { return call(ctx, jobs[0].attempt, handle, events...) }, jobs)
	}
	return nil
}

// wrapBegin puts the AsyncMiddleware around a handler.
func (r *registration) wrapBegin() {
	if len(r.AsyncMiddleware) == 0 {
		return
	}
	name, attempts, begin, middleware := r.Name, r.maxAttempts(), r.begin, slices.Clone(r.AsyncMiddleware)
	r.begin = func(ctx context.Context, e *outbox.Event, attempt int, f *flight) error {
		c := Call{Subscription: name, Events: []*outbox.Event{e}, Attempt: attempt, MaxAttempts: attempts}
		for _, m := range middleware {
			inner, ended := m(ctx, c)
			if ctx = inner; ended != nil {
				f.follow(ended)
			}
		}
		return begin(ctx, e, attempt, f)
	}
}

// maxAttempts is Retry.MaxAttempts as the application sees it.
func (r *registration) maxAttempts() int {
	if r.Retry.MaxAttempts == unlimitedAttempts {
		return Unlimited
	}
	return r.Retry.MaxAttempts
}

// tellAnswer calls what AsyncMiddleware wants called with an answer. Unlike a hook, it is called for each event: so it gets no goroutine of its own.
func (r *runner) tellAnswer(ended func(error), why error) {
	defer func() {
		if value := recover(); value != nil {
			guard.HookFailed(r.log, "AsyncMiddleware", panicked(value, debug.Stack()))
		}
	}()
	ended(why)
}

// failuresOf is the error of a call, of which each job has its part.
func failuresOf(jobs []*job) error {
	errs := make([]error, len(jobs))
	for i, j := range jobs {
		if j.failure != nil {
			errs[i] = j.failure
		}
	}
	if len(jobs) == 1 {
		return errs[0]
	}
	return PerEvent(errs)
}
