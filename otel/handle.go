package otel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// Middleware has each call of a handler, of any form but worker.HandleAsync, run in a span of its own, with links to the spans that published its events. It is a
// [worker.Middleware]. The span is the root of a new trace, also for each attempt that follows.
//
// The span fails with the handler: if that returns an error, of which worker.Snooze and worker.Skip are none here, or panics.
func (t *Tracer) Middleware(next worker.Handler) worker.Handler {
	return func(ctx context.Context, c worker.Call) (err error) {
		ctx, span := t.startProcessing(ctx, c)
		defer span.End() // which also records a panic
		returned := false
		defer func() {
			if !returned {
				span.SetStatus(codes.Error, "the handler panicked or ended its goroutine")
			}
		}()
		err = next(ctx, c)
		returned = true
		if failed := failureOf(err, len(c.Events)); failed != nil {
			fail(span, failed)
		}
		return err
	}
}

// startProcessing begins the span of a call.
func (t *Tracer) startProcessing(ctx context.Context, c worker.Call) (context.Context, trace.Span) {
	return t.start(ctx, processing, topicOf(c.Events, func(e *outbox.Event) string { return e.Topic }),
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(linksOf(c.Events)...),
		trace.WithAttributes(semconv.MessagingDestinationSubscriptionName(c.Subscription), attemptKey.Int(c.Attempt), of(len(c.Events), c.Events[0].UID)))
}

// linksOf returns a link to each span that published some of the events, in their order. It says which event it is for, if that is only one.
func linksOf(events []*outbox.Event) []trace.Link {
	var links []trace.Link
	at := map[[24]byte]int{} // by ids of trace and span
	for _, e := range events {
		publisher := trace.SpanContextFromContext(format.Extract(context.Background(), headers(e.Headers)))
		if !publisher.IsValid() {
			continue
		}
		var id [24]byte
		traceID, spanID := publisher.TraceID(), publisher.SpanID()
		copy(id[copy(id[:], traceID[:]):], spanID[:])
		if i, has := at[id]; has {
			links[i].Attributes = nil
			continue
		}
		at[id] = len(links)
		links = append(links, trace.Link{SpanContext: publisher, Attributes: []attribute.KeyValue{semconv.MessagingMessageID(e.UID)}})
	}
	return links
}

// failureOf returns the first error of a call of so many events that is a failure, or nil.
func failureOf(err error, events int) error {
	errs := []error{err}
	var each interface{ Unwrap() []error } // from worker.PerEvent
	if events > 1 && errors.As(err, &each) && len(each.Unwrap()) == events {
		errs = each.Unwrap()
	}
	for _, err := range errs {
		if err == nil {
			continue
		}
		if kind := errorType(err); kind != "snooze" && kind != "skip" {
			return err
		}
	}
	return nil
}
