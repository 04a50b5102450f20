package otel

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-go/signalbox/worker"
)

// AsyncMiddleware is [Tracer.Middleware] for worker.HandleAsync and for relays. It is a [worker.AsyncMiddleware]: the span lasts from when an event is
// handed to the handler until it is answered.
//
// The span of a relay's message is about sending it: it is named after its destination, and the message carries the span's context in the headers
// traceparent and tracestate, in place of the publisher's. It is linked to the span that published the event, as those of handlers are.
func (t *Tracer) AsyncMiddleware(ctx context.Context, c worker.Call) (context.Context, func(error)) {
	start := t.startProcessing
	if c.Outgoing != nil {
		start = t.startSending
	}
	ctx, span := start(ctx, c)
	return ctx, func(err error) {
		if failed := failureOf(err, 1); failed != nil {
			fail(span, failed)
		}
		span.End()
	}
}

// startSending begins the span of a relay's message.
func (t *Tracer) startSending(ctx context.Context, c worker.Call) (context.Context, trace.Span) {
	m, e := c.Outgoing, c.Events[0]
	name := m.Template
	attributes := append([]attribute.KeyValue{
		semconv.MessagingSystemKey.String(m.System), semconv.MessagingDestinationName(m.Destination), semconv.MessagingMessageID(e.UID),
		outboxKey.String(t.outbox.String()), subscriptionKey.String(c.Subscription), topicKey.String(e.Topic), attemptKey.Int(c.Attempt),
	}, sending...)
	if name == "" {
		name = m.Destination
	} else {
		attributes = append(attributes, semconv.MessagingDestinationTemplate(name))
	}
	for _, a := range m.Attributes {
		attributes = append(attributes, attributeOf(a))
	}
	outer := trace.SpanContextFromContext(ctx)
	ctx, span := t.tracer.Start(ctx, nameOf(sending, name), trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithLinks(linksOf(c.Events)...), trace.WithAttributes(attributes...))
	// Without a TracerProvider there is no span of its own, and the message goes on with what its publisher said.
	if made := span.SpanContext(); made.IsValid() && !made.Equal(outer) {
		headers(m.Headers).remove("tracestate")
		format.Inject(ctx, headers(m.Headers))
	}
	return ctx, span
}

// attributeOf is an attribute that a sink gave.
func attributeOf(a slog.Attr) attribute.KeyValue {
	key, value := attribute.Key(a.Key), a.Value.Resolve()
	switch value.Kind() {
	case slog.KindBool:
		return key.Bool(value.Bool())
	case slog.KindInt64:
		return key.Int64(value.Int64())
	default:
		return key.String(value.String())
	}
}
