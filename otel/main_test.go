package otel_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/otel"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// A recording is what tracers of a test have made.
type recording struct {
	*tracetest.InMemoryExporter
	provider *sdktrace.TracerProvider
}

func record(t *testing.T) *recording {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	t.Cleanup(func() { _ = provider.Shutdown(context.WithoutCancel(t.Context())) })
	return &recording{exporter, provider}
}

func (r *recording) tracer() *otel.Tracer {
	return otel.NewTracer(otel.Config{TracerProvider: r.provider})
}

// spans waits for n ended spans of a kind, and returns them in the order in which they began.
func (r *recording) spans(t *testing.T, kind trace.SpanKind, n int) tracetest.SpanStubs {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		found := slices.DeleteFunc(r.GetSpans(), func(s tracetest.SpanStub) bool { return s.SpanKind != kind })
		if len(found) >= n || time.Now().After(deadline) {
			if len(found) != n {
				t.Fatalf("there are %d spans of a %s, want %d: %+v", len(found), kind, n, found)
			}
			slices.SortFunc(found, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
			return found
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// attributes of a span or a link, by name.
func attributes(list []attribute.KeyValue) map[string]any {
	values := map[string]any{}
	for _, a := range list {
		values[string(a.Key)] = a.Value.AsInterface()
	}
	return values
}

// event returns an event to publish.
func event(topic string) outbox.Event {
	return outbox.Event{Topic: topic, Payload: json.RawMessage(`{"total": 4200}`), Headers: map[string]string{"tenant": "7"}}
}

// run runs a worker until the test ends.
func run(t *testing.T, db *pgtest.DB, cfg worker.Config, register func(w *worker.Worker) error) {
	t.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	w, err := worker.New(db.Pool, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := register(w); err != nil {
		t.Fatal(err)
	}
	// Workers run in some span of their process, of which no handler's span is a child.
	main := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled})
	ctx, cancel := context.WithCancel(trace.ContextWithSpanContext(t.Context(), main))
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
