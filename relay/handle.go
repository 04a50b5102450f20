package relay

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/signalbox-go/signalbox/worker"
)

// Handle registers a subscription whose handler is a sink: each event that matches becomes a message, unless its route drops it. Call it
// before [worker.Worker.Run]. An event without a route becomes a dead letter. Handle returns an error wrapping worker.ErrInvalidConfig for an
// invalid cfg or subscription. See [worker.HandleAsync] for how many messages are in flight.
//
// The caller closes the sink after Run has returned.
func Handle(w *worker.Worker, s worker.Subscription, sink Sink, cfg Config) error {
	encoder, err := NewEncoder(sink, cfg)
	if err != nil {
		return fmt.Errorf("%w: subscription %q: %w", worker.ErrInvalidConfig, s.Name, err)
	}
	if place, says := sink.(fmt.Stringer); says && s.SendsTo == "" {
		s.SendsTo = place.String()
	}
	order := worker.Strict
	if sink.Pipelined() {
		order = worker.Pipelined
	}
	return worker.HandleAsync(w, s, order, func(ctx context.Context, e *worker.Event[json.RawMessage], done func(error)) {
		m, err := encoder.Message(&e.Event)
		switch {
		case err != nil:
			done(worker.DeadLetter(err))
		case m == nil:
			done(nil)
		default:
			m.Attempt = e.Attempt
			sink.Send(ctx, m, done)
		}
	})
}
