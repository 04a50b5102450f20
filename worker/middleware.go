package worker

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/sourcegraph/conc/panics"

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
			if len(jobs) == 1 {
				return jobs[0].err
			}
			errs := make([]error, len(jobs))
			for i, j := range jobs {
				errs[i] = j.err
			}
			return PerEvent(errs)
		}
		var err error
		if recovered := panics.Try(func() { err = around(call)(ctx, events) }); recovered != nil {
			err = panicked(recovered)
		}
		spread(err, jobs)
	}
}
