package worker

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

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

// HandleBatch registers a handler that takes the events of a window as a slice, in the order of their publication: for calls
// that are cheaper together, such as a bulk insert elsewhere. It is at least once, like [Handle].
//
// An error applies to every event in the slice, unless it was made by [PerEvent]. A handler that reports one event as failed and
// a later one of the same key as done has handled them out of order: that is its own decision. Events that are tried again come
// alone, so that one that cannot be handled does not make others fail. The subscription's timeout is for the whole call, and
// ParkAfter does not apply. In a worker, one call of a subscription runs at a time.
func HandleBatch[T any](w *Worker, s Subscription, handler func(ctx context.Context, events []*Event[T]) error) error {
	r := registration{Subscription: s}
	if handler != nil {
		r.many = manyOf(func(ctx context.Context, _ pgx.Tx, events []*Event[T]) error { return handler(ctx, events) })
	}
	return w.register(r)
}

// HandleTx registers a handler whose writes take effect exactly once: they commit together with the record that the event is
// handled, or not at all, whatever dies in between, and whichever worker handles it next. The handler must write through tx, and
// must not end it: an attempt that does, also with plain SQL, fails. Roles, settings, temporary tables and the like are undone when it
// has returned; open rows or a broken connection cost its attempt. Effects elsewhere are at least once, as with [Handle].
//
// All events of a window share the transaction, one after the other. If one fails, its writes are undone, and those of the
// others take effect. Keep handlers short: ParkAfter does not apply.
func HandleTx[T any](w *Worker, s Subscription, handler func(ctx context.Context, tx pgx.Tx, e *Event[T]) error) error {
	r := registration{Subscription: s, tx: true, solo: true}
	if handler != nil {
		r.many = manyOf(func(ctx context.Context, tx pgx.Tx, events []*Event[T]) error { return handler(ctx, tx, events[0]) })
	}
	return w.register(r)
}

// HandleBatchTx is [HandleTx] for a handler that takes the events of a window as a slice: an insert … select from unnest for
// thousands of events costs little more than one for a single event. If it fails, the events are handled again one by one, each
// in a slice of its own, so that only those that cannot be handled fail.
func HandleBatchTx[T any](w *Worker, s Subscription, handler func(ctx context.Context, tx pgx.Tx, events []*Event[T]) error) error {
	r := registration{Subscription: s, tx: true}
	if handler != nil {
		r.many = manyOf(handler)
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
