// Package otel traces events from the transaction that publishes them to their handlers with OpenTelemetry, and exports the metrics of
// package metrics through it.
//
//	t := otel.NewTracer(otel.Config{})
//	_, err := t.Publish(ctx, tx, event)                                         // in place of outbox.Publish
//	s := worker.Subscription{Name: "mails", Middleware: []worker.Middleware{t.Middleware}}
//
// A relay, and any handler of worker.HandleAsync, takes AsyncMiddleware instead:
//
//	s := worker.Subscription{Name: "to-kafka", AsyncMiddleware: []worker.AsyncMiddleware{t.AsyncMiddleware}}
//
// # Traces
//
// Publish and PublishFrom of a [Tracer] store the W3C trace context of a span in the headers traceparent and tracestate of each event. Any
// publisher may do the same, in SQL and in other languages.
//
// Each call of a handler is a span that begins a trace of its own, with a link to the span that published the event, or to several for a batch. It
// is no child of that span: an event may be handled by many subscriptions, and again hours later, which would stretch the
// trace of the request that published it. The same goes for each attempt of a relay to send a message, which carries the context of that span.
//
// Names and attributes are those of the semantic conventions for messaging; docs/tracing.md lists them.
//
// # Metrics
//
// [NewMetricProducer] has a reader of OpenTelemetry's SDK export what package metrics collects for Prometheus, with the same names and labels.
package otel
