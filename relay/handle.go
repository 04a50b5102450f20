package relay

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// Handle registers a subscription whose handler is a sink: each event that matches becomes a message, unless its route drops it. Call it
// before [worker.Worker.Run]. An event without a route becomes a dead letter. Handle returns an error wrapping worker.ErrInvalidConfig for an
// invalid cfg or subscription. See [worker.HandleAsync] for how many messages are in flight.
//
// AsyncMiddleware of the subscription is told of the message (worker.Call.Outgoing) before it is encoded, and may change its headers: so that of
// package otel has each attempt at sending a message be a span, whose context the message carries. For events without a message, because
// they are dropped or have no route, Outgoing is nil.
//
// The caller closes the sink after Run has returned.
func Handle(w *worker.Worker, s worker.Subscription, sink Sink, cfg Config) error {
	if sink == nil {
		return fmt.Errorf("%w: subscription %q has no sink", worker.ErrInvalidConfig, s.Name)
	}
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
	address := func(_ context.Context, ev *outbox.Event) (*Message, error) { return encoder.address(ev) }
	if len(s.AsyncMiddleware) > 0 {
		s.AsyncMiddleware = encoder.telling(sink, s.AsyncMiddleware)
		address = encoder.addressed
	}
	return worker.HandleAsync(w, s, order, func(ctx context.Context, e *worker.Event[json.RawMessage], done func(error)) {
		m, err := address(ctx, &e.Event)
		if err == nil && m != nil {
			err = encoder.encode(m)
		}
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
