package otel

import (
	"context"
	"iter"
	"maps"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-go/signalbox/outbox"
)

// Publish is [outbox.Publish], in a span whose context it stores in the headers of the events. An event that has a header traceparent keeps
// that, so that what is passed on stays linked to where it came from.
func (t *Tracer) Publish(ctx context.Context, db outbox.DB, events ...outbox.Event) ([]outbox.Event, error) {
	if len(events) == 0 {
		return nil, nil
	}
	ctx, span := t.start(ctx, publishing, topicOf(events, func(e outbox.Event) string { return e.Topic }), trace.WithSpanKind(trace.SpanKindProducer))
	defer span.End()
	traced, injected := make([]outbox.Event, len(events)), contextOf(ctx)
	for i, e := range events {
		traced[i] = withContext(e, injected)
	}
	stored, err := t.outbox.Publish(ctx, db, traced...)
	if err != nil {
		fail(span, err)
		return nil, err
	}
	span.SetAttributes(of(len(stored), stored[0].UID))
	return stored, nil
}

// PublishFrom is [outbox.PublishFrom], in a span whose context it stores in the headers of the events, as Publish does.
func (t *Tracer) PublishFrom(ctx context.Context, db outbox.Copier, events iter.Seq2[outbox.Event, error]) (int64, error) {
	ctx, span := t.start(ctx, publishing, "", trace.WithSpanKind(trace.SpanKindProducer))
	defer span.End()
	injected := contextOf(ctx)
	n, err := t.outbox.PublishFrom(ctx, db, func(yield func(outbox.Event, error) bool) {
		for e, err := range events {
			if !yield(withContext(e, injected), err) {
				return
			}
		}
	})
	if err != nil {
		fail(span, err)
		return n, err
	}
	span.SetAttributes(semconv.MessagingBatchMessageCount(int(n)))
	return n, nil
}

// contextOf returns the headers that say which span a context is of; none without a span.
func contextOf(ctx context.Context) headers {
	injected := headers{}
	format.Inject(ctx, injected)
	return injected
}

// withContext adds headers to an event without changing those of the caller, unless it has such headers already.
func withContext(e outbox.Event, injected headers) outbox.Event {
	if len(injected) == 0 || headers(e.Headers).Get("traceparent") != "" {
		return e
	}
	all := make(headers, len(e.Headers)+len(injected))
	maps.Copy(all, e.Headers)
	all.remove("tracestate") // without a traceparent, it says nothing
	for name, value := range injected {
		all.Set(name, value)
	}
	e.Headers = all
	return e
}

// topicOf returns the topic of all events, or "" if they have several.
func topicOf[E any](events []E, topic func(E) string) string {
	first := topic(events[0])
	for _, e := range events[1:] {
		if topic(e) != first {
			return ""
		}
	}
	return first
}
