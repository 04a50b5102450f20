package worker

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/outbox"
)

// A Call is one call of a handler, with a single event or, for HandleBatch and HandleBatchTx, several. Its error is the handler's.
type Call func(ctx context.Context, events []*outbox.Event) error

// Middleware wraps the calls of a handler, whatever its form: to log, to trace, to measure. It may change the context, and the
// error, but must call next at most once, and with the same events.
type Middleware func(next Call) Call

// wrap puts the middleware around a handler, the first one outermost.
func (r *registration) wrap() {
	if len(r.Middleware) == 0 {
		return
	}
	around := func(call Call) Call {
		for i := len(r.Middleware) - 1; i >= 0; i-- {
			call = r.Middleware[i](call)
		}
		return call
	}
	if each := r.each; each != nil {
		r.each = func(ctx context.Context, e *outbox.Event, attempt int) error {
			return around(func(ctx context.Context, _ []*outbox.Event) error { return each(ctx, e, attempt) })(ctx, []*outbox.Event{e})
		}
		return
	}
	many := r.many
	r.many = func(ctx context.Context, tx pgx.Tx, jobs []*job) {
		events := make([]*outbox.Event, len(jobs))
		for i, j := range jobs {
			events[i] = &j.event.Event
		}
		call := func(ctx context.Context, _ []*outbox.Event) error {
			many(ctx, tx, jobs)
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
		spread(func() error { return around(call)(ctx, events) }, jobs)
	}
}
