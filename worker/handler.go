package worker

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/outbox"
)

// An Event is an outbox.Event with a decoded payload, as handlers receive it.
type Event[T any] struct {
	outbox.Event

	// Payload is the event's payload, brought to the subscription's SchemaVersion and decoded from JSON. The bytes as they were published
	// are Event.Payload of the embedded outbox.Event.
	Payload T

	// Attempt is the number of this attempt, from 1. The same number comes again after a crash, after [Snooze] or [PauseFor], and in an
	// outage: see Subscription.BreakerAfter.
	Attempt int
}

// Handle registers a handler for single events. Call it before [Worker.Run], once per subscription name. An invalid registration
// returns an error that wraps ErrInvalidConfig.
//
// The handler is called at least once for each event: again after an attempt failed, and again if its worker died before the success
// was recorded. An attempt fails if the handler returns an error, panics or exceeds the timeout. The event is tried again, with growing
// delays, until an attempt succeeds or all its attempts have failed; then it becomes a dead letter. An event whose payload does not
// decode into T is tried again, too, without using up an attempt: see Subscription.OnDecodeError. See [Retry], [RetryAfter], [DeadLetter]
// and [Skip].
//
// Events with the same key are handled one after the other, in the order in which they were published, and wait behind an event of
// their key that is to be tried again. Other events are handled concurrently, so the handler must be safe for concurrent use.
//
// Use json.RawMessage as T for undecoded payloads.
func Handle[T any](w *Worker, s Subscription, handler func(ctx context.Context, e *Event[T]) error) error {
	r, p := registration{Subscription: s}, payloadsOf(&s)
	if handler != nil {
		r.each = func(ctx context.Context, raw *outbox.Event, attempt int) error {
			var e Event[T]
			if err := e.decode(p, raw, attempt); err != nil {
				return err
			}
			return handler(ctx, &e)
		}
	}
	return w.register(r)
}

// HandleBatch registers a handler for all events of a window at once, in the order in which they were published: for calls that are
// cheaper together, such as a bulk insert into another system. Like [Handle], it is at least once, and returns the same errors.
//
// An error applies to each event of the slice, unless it is from [PerEvent]. If the handler reports that an event failed and that a
// later one of the same key succeeded, it has handled them out of order, and the worker does not correct that. Events that failed
// are tried again together, in half as many after each attempt, and alone in their last attempt, so that an event that cannot be handled
// does not make others dead letters. One attempt may be several calls: if a call fails, each half of its events is tried.
//
// The timeout applies to the whole call; ParkAfter does not apply. Each worker runs one call per subscription at a time, so a call that
// takes long holds up its own subscription, and no other.
func HandleBatch[T any](w *Worker, s Subscription, handler func(ctx context.Context, events []*Event[T]) error) error {
	r := registration{Subscription: s}
	if handler != nil {
		r.many = manyOf(payloadsOf(&s), func(ctx context.Context, _ pgx.Tx, events []*Event[T]) error { return handler(ctx, events) })
	}
	return w.register(r)
}

// HandleTx registers a handler for single events whose writes take effect exactly once: they commit together with the record that the
// event is handled, or not at all, whatever fails in between. It returns the same errors as [Handle].
//
// The handler must write through tx and must not end it: an attempt that does, also through plain SQL, fails. Roles, settings,
// temporary tables and the like are undone when the handler returns. Rows left open or a broken connection make the attempt fail. Effects
// outside this database are at least once, as with [Handle].
//
// The events of a window share the transaction, one after the other. If one of them fails, its writes are undone; those of the others
// take effect. No event begins when the window has taken 2s, or ParkAfter if that is longer: it is handled later. But a handler
// that runs is never parked, so keep handlers short.
func HandleTx[T any](w *Worker, s Subscription, handler func(ctx context.Context, tx pgx.Tx, e *Event[T]) error) error {
	r := registration{Subscription: s, tx: true, solo: true}
	if handler != nil {
		r.many = manyOf(payloadsOf(&s), func(ctx context.Context, tx pgx.Tx, events []*Event[T]) error { return handler(ctx, tx, events[0]) })
	}
	return w.register(r)
}

// HandleBatchTx is [HandleTx] for all events of a window at once: an insert … select from unnest for thousands of events costs little
// more than one for a single event. If the handler fails, what it wrote is undone and the events are handled again: in halves, and halves of
// those, so that in the end only those that cannot be handled fail. Where it returns an error of [PerEvent], it has told which those are. As with
// [HandleBatch], a call may last its timeout, and holds up the subscription meanwhile.
func HandleBatchTx[T any](w *Worker, s Subscription, handler func(ctx context.Context, tx pgx.Tx, events []*Event[T]) error) error {
	r := registration{Subscription: s, tx: true}
	if handler != nil {
		r.many = manyOf(payloadsOf(&s), handler)
	}
	return w.register(r)
}

// decode fills in the event.
func (e *Event[T]) decode(p *payloads, raw *outbox.Event, attempt int) error {
	e.Event, e.Attempt = *raw, attempt
	kept, undecoded := any(&e.Payload).(*json.RawMessage)
	if undecoded && !p.versioned {
		*kept = raw.Payload
		return nil
	}
	payload, err := p.upcast(raw)
	switch {
	case err != nil:
		return p.undecoded(err)
	case undecoded:
		*kept = payload
	default:
		if err := json.Unmarshal(payload, &e.Payload); err != nil {
			return p.undecoded(fmt.Errorf("decode payload as %T: %w", e.Payload, err))
		}
	}
	return nil
}

// handlerFunc is a handler of single events, whatever their payload.
type handlerFunc func(ctx context.Context, e *outbox.Event, attempt int) error
