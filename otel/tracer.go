package otel

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-go/signalbox/outbox"
)

const scope = "github.com/signalbox-go/signalbox/otel"

// Attributes that the semantic conventions do not have.
const (
	outboxKey  = attribute.Key("signalbox.outbox")  // name of the outbox
	attemptKey = attribute.Key("signalbox.attempt") // number of the attempt at handling, from 1

	// Of a relay's message, whose destination is elsewhere:
	subscriptionKey = attribute.Key("signalbox.subscription")
	topicKey        = attribute.Key("signalbox.topic")
)

// The operations of the semantic conventions.
var (
	publishing = []attribute.KeyValue{semconv.MessagingOperationName("publish"), semconv.MessagingOperationTypeSend}
	processing = []attribute.KeyValue{semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess}
	sending    = []attribute.KeyValue{semconv.MessagingOperationName("send"), semconv.MessagingOperationTypeSend}
)

// Config holds the options of a Tracer. Its zero value works.
type Config struct {
	// Outbox is the one that Publish and PublishFrom publish to, and that is named in spans. Defaults to the default outbox.
	Outbox outbox.Outbox

	// TracerProvider makes the spans. Defaults to OpenTelemetry's global one, which may be set later.
	TracerProvider trace.TracerProvider
}

// A Tracer makes spans for publishing and handling events. It is safe for concurrent use.
type Tracer struct {
	outbox outbox.Outbox
	tracer trace.Tracer
}

// NewTracer returns a Tracer.
func NewTracer(cfg Config) *Tracer {
	provider := cfg.TracerProvider
	if provider == nil {
		provider = otel.GetTracerProvider()
	}
	return &Tracer{outbox: cfg.Outbox, tracer: provider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))}
}

// start begins a span for events of a topic, or of several if that is "".
func (t *Tracer) start(ctx context.Context, operation []attribute.KeyValue, topic string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	attributes := append([]attribute.KeyValue{semconv.MessagingSystemKey.String("signalbox"), outboxKey.String(t.outbox.String())}, operation...)
	if topic != "" {
		attributes = append(attributes, semconv.MessagingDestinationName(topic))
	}
	return t.tracer.Start(ctx, nameOf(operation, topic), append(options, trace.WithAttributes(attributes...))...)
}

// nameOf returns the name of a span: that of the operation, and of the topic if there is only one.
func nameOf(operation []attribute.KeyValue, topic string) string {
	return strings.TrimSpace(operation[0].Value.AsString() + " " + topic)
}

// of returns the attributes that say which events a span is about: the UID of one, and the number of several.
func of(events int, uid string) attribute.KeyValue {
	if events == 1 {
		return semconv.MessagingMessageID(uid)
	}
	return semconv.MessagingBatchMessageCount(events)
}

// fail marks a span as failed.
func fail(span trace.Span, err error) {
	text, _, _ := strings.Cut(err.Error(), "\n")
	span.SetStatus(codes.Error, text)
	span.SetAttributes(semconv.ErrorTypeKey.String(errorType(err)))
}

// errorType is the kind of an error: what it says itself, as those of package worker do, or the type of the innermost one.
func errorType(err error) string {
	var named interface{ ErrorType() string }
	switch {
	case errors.As(err, &named):
		return named.ErrorType()
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return fmt.Sprintf("%T", err)
}

// The headers of an event as OpenTelemetry's propagators see them. They are W3C's, whatever the global propagator is: publishers in other
// languages and sinks rely on their names.
var format propagation.TraceContext
