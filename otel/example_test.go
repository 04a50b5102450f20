package otel_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/signalbox-go/signalbox/metrics"
	"github.com/signalbox-go/signalbox/otel"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/nats"
	"github.com/signalbox-go/signalbox/worker"
)

type placed struct {
	ID string `json:"id"`
}

// A service whose handlers' spans are linked to those that publish.
func Example() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://localhost/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	t := otel.NewTracer(otel.Config{})
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := t.Publish(ctx, tx, outbox.Event{Topic: "orders.placed", Key: "A-17", Payload: json.RawMessage(`{"id": "A-17"}`)})
		return err
	})
	if err != nil {
		log.Fatal(err)
	}

	w, err := worker.New(pool, worker.Config{})
	if err != nil {
		log.Fatal(err)
	}
	s := worker.Subscription{Name: "mails", Topics: []string{"orders.placed"}, Middleware: []worker.Middleware{t.Middleware}}
	err = worker.Handle(w, s, func(ctx context.Context, e *worker.Event[placed]) error {
		return send(ctx, e.Payload) // what it does with ctx is traced in the handler's span
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// send stands for a call of another service.
func send(context.Context, placed) error { return nil }

// What a worker makes of an event that was published in SQL, with a traceparent among its headers.
func ExampleTracer_Middleware() {
	exporter := tracetest.NewInMemoryExporter() // a real one sends the spans to a collector
	t := otel.NewTracer(otel.Config{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))})
	handler := t.Middleware(func(context.Context, worker.Call) error { return nil })

	e := outbox.Event{Topic: "orders.placed", Headers: map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}
	if err := handler(context.Background(), worker.Call{Subscription: "mails", Events: []*outbox.Event{&e}, Attempt: 1}); err != nil {
		log.Fatal(err)
	}
	span := exporter.GetSpans()[0]
	fmt.Println(span.Name)
	fmt.Println("child of a span:", span.Parent.IsValid())
	fmt.Println("linked to trace:", span.Links[0].SpanContext.TraceID())
	// Output:
	// process orders.placed
	// child of a span: false
	// linked to trace: 4bf92f3577b34da6a3ce929d0e0e4736
}

// A relay whose messages carry the context of the spans that send them. What is left of a trace when it is sampled is decided by the publisher.
func ExampleTracer_AsyncMiddleware() {
	ctx := context.Background()
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spanExporterOfYours()), sdktrace.WithSampler(sdktrace.ParentBased(otel.SampleLinked(sdktrace.AlwaysSample()))))
	defer func() { _ = provider.Shutdown(ctx) }()
	t := otel.NewTracer(otel.Config{TracerProvider: provider})

	pool, err := pgxpool.New(ctx, "postgres://localhost/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	sink, err := nats.New(nats.Config{URL: "nats://localhost:4222"})
	if err != nil {
		log.Fatal(err)
	}
	defer sink.Close()
	w, err := worker.New(pool, worker.Config{})
	if err != nil {
		log.Fatal(err)
	}
	s := worker.Subscription{Name: "to-nats", Topics: []string{"orders.>"}, AsyncMiddleware: []worker.AsyncMiddleware{t.AsyncMiddleware}}
	if err := relay.Handle(w, s, sink, relay.Config{Source: "https://shop.example/orders"}); err != nil {
		log.Fatal(err)
	}
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// spanExporterOfYours stands for one such as otlptracehttp.
func spanExporterOfYours() sdktrace.SpanExporter { return nil }

// A reader that also exports the metrics of workers and of the outbox.
func ExampleNewMetricProducer() {
	m := metrics.New(metrics.Config{}) // with a Pool, also the outbox's state
	producer, err := otel.NewMetricProducer(m)
	if err != nil {
		log.Fatal(err)
	}
	reader := metric.NewPeriodicReader(exporterOfYours(), metric.WithInterval(15*time.Second), metric.WithProducer(producer))
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	defer func() { _ = provider.Shutdown(context.Background()) }()

	_ = worker.Config{Hooks: []worker.Hooks{m.Hooks()}}
}

// exporterOfYours stands for one such as otlpmetricgrpc.
func exporterOfYours() metric.Exporter { return nil }
