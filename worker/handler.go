package worker

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/signalbox-go/signalbox/outbox"
)

// An Event is what a handler gets: an outbox.Event whose payload is decoded.
type Event[T any] struct {
	outbox.Event

	// Payload is the event's payload, decoded from JSON. The bytes themselves are in e.Event.Payload.
	Payload T

	// Attempt is 1 for the first one. After a crash, an attempt may come with the same number again.
	Attempt int
}

// Handle registers a handler for a subscription. It must be called before [Worker.Run], once for each name: what cannot be is an
// error that is ErrInvalidConfig.
//
// The handler is called for each event at least once: again after it failed, and again when its worker died before the
// success was recorded. An error, a panic and a handler that runs into its timeout all count as failures: the event is
// tried again later, with growing delays, until it succeeds or has had all its attempts; then it is kept as a dead letter, as is one
// whose payload does not decode into T, at once. See [Retry], [RetryAfter], [DeadLetter] and [Skip]. Events with the
// same key are handled one after the other, in the order in which they were published, and those behind a failed one
// wait for it; others run concurrently, so the handler must be safe for concurrent use.
//
// Use json.RawMessage as T for the undecoded payload.
func Handle[T any](w *Worker, s Subscription, handler func(ctx context.Context, e *Event[T]) error) error {
	r := registration{Subscription: s}
	if handler != nil {
		r.each = func(ctx context.Context, raw *outbox.Event, attempt int) error {
			var e Event[T]
			if err := e.decode(raw, attempt); err != nil {
				return err
			}
			return handler(ctx, &e)
		}
	}
	return w.register(r)
}

// decode fills in the event. One whose payload does not decode is a dead letter: trying again would not help.
func (e *Event[T]) decode(raw *outbox.Event, attempt int) error {
	e.Event, e.Attempt = *raw, attempt
	if payload, ok := any(&e.Payload).(*json.RawMessage); ok {
		*payload = raw.Payload
	} else if err := json.Unmarshal(raw.Payload, &e.Payload); err != nil {
		return DeadLetter(fmt.Errorf("decode payload as %T: %w", e.Payload, err))
	}
	return nil
}

// handlerFunc is a handler of single events, whatever their payload.
type handlerFunc func(ctx context.Context, e *outbox.Event, attempt int) error
