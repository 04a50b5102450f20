package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/outbox"
)

// A Handler is a handler of any form, as middleware sees it. It returns the error of the handler, or nil.
type Handler func(ctx context.Context, c Call) error

// Middleware wraps a handler of any form, for example to log, trace or measure its calls. It is called once, at registration. The Handler
// that it returns must be safe for concurrent use. It may replace the context and the error. It must call next at most once, with the
// Call that it received; any other Call is an error.
type Middleware func(next Handler) Handler

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

	handle func(context.Context) error // calls the handler
}

// errOtherCall says that middleware has made a Call.
var errOtherCall = errors.New("middleware called next with another Call than it got")

// wrap puts the middleware around a handler, the first one outermost.
func (r *registration) wrap() error {
	if len(r.Middleware) == 0 {
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
	name, attempts := r.Name, r.Retry.MaxAttempts
	if attempts == unlimitedAttempts {
		attempts = Unlimited
	}
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
