package tracing_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	broker "github.com/signalbox-go/signalbox/brokers/kafka"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/otel"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/kafka"
	"github.com/signalbox-go/signalbox/relay/webhook"
	"github.com/signalbox-go/signalbox/worker"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const patience = 2 * time.Minute

// TestTrace follows one event from a request over HTTP through the outbox to a handler, to Kafka and to a webhook whose receiver is away at first. Each gets
// there in a trace of its own, linked to the span that published the event; what arrives in Kafka and at the receiver is of the span that sent it.
func TestTrace(t *testing.T) {
	t.Parallel()
	b := broker.New(t)
	topic(t, b, "orders")
	db := pgtest.New(t)
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	tracer := otel.NewTracer(otel.Config{TracerProvider: provider})

	// The shop, whose handler of requests has a span, as otelhttp makes it.
	shop := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx, span := provider.Tracer("shop").Start(propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header)), "POST /orders", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		err := pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) error {
			_, err := tracer.Publish(ctx, tx, outbox.Event{Topic: "orders", Key: "A-17", Payload: json.RawMessage(`{"total": 4200}`)})
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}))
	defer shop.Close()

	// The receiver of the webhook, away for the first two requests.
	var mu sync.Mutex
	var requests []http.Header
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if requests = append(requests, r.Header.Clone()); len(requests) < 3 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer receiver.Close()

	records, err := kafka.New(kafka.Config{Brokers: []string{b.Addr}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer records.Close()
	hooks, err := webhook.New(webhook.Config{
		Endpoint: &webhook.Endpoint{URL: receiver.URL, Unsigned: true}, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer hooks.Close()

	w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	sub := worker.Subscription{Topics: []string{"orders"}, BreakerAfter: worker.Unlimited, Retry: worker.Retry{Delay: func(int) time.Duration { return 10 * time.Millisecond }}}
	mails, toKafka, toHooks := sub, sub, sub
	mails.Name, mails.Middleware = "mails", []worker.Middleware{tracer.Middleware}
	toKafka.Name, toKafka.AsyncMiddleware = "to-kafka", []worker.AsyncMiddleware{tracer.AsyncMiddleware}
	toHooks.Name, toHooks.AsyncMiddleware = "to-hooks", []worker.AsyncMiddleware{tracer.AsyncMiddleware}
	cfg := relay.Config{Source: "https://shop.example/orders"}
	for _, err := range []error{
		worker.Handle(w, mails, func(ctx context.Context, _ *worker.Event[json.RawMessage]) error {
			_, span := provider.Tracer("shop").Start(ctx, "smtp", trace.WithSpanKind(trace.SpanKindClient))
			span.End()
			return nil
		}),
		relay.Handle(w, toKafka, records, cfg), relay.Handle(w, toHooks, hooks, cfg),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	const caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("traceparent", caller)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()

	record := consume(t, b, "orders")
	spans := map[string]tracetest.SpanStubs{}
	await(t, "three attempts, and the ends of all", func() bool {
		clear(spans)
		for _, s := range exporter.GetSpans() {
			name := s.Name
			if at := attributes(s.Attributes)["signalbox.subscription"]; at != nil {
				name = fmt.Sprint(at, ": ", name)
			}
			spans[name] = append(spans[name], s)
		}
		return len(spans["process orders"]) == 1 && len(spans["to-kafka: send orders"]) == 1 && len(spans["to-hooks: send orders"]) == 3
	})

	// The trace of the request: the caller's, and it ends with the publishing.
	request, published := spans["POST /orders"][0], spans["publish orders"][0]
	if parentOf(request.Parent) != caller || published.Parent.SpanID() != request.SpanContext.SpanID() || published.SpanKind != trace.SpanKindProducer {
		t.Errorf("the request's parent is %v, and that of publishing %v", request.Parent, published.Parent)
	}
	traces := map[trace.TraceID][]string{}
	for _, s := range exporter.GetSpans() {
		traces[s.SpanContext.TraceID()] = append(traces[s.SpanContext.TraceID()], s.Name)
	}
	if got := traces[request.SpanContext.TraceID()]; len(traces) != 6 || len(got) != 2 {
		t.Errorf("there are %d traces, want 6, and the request's has %v, want itself and publishing", len(traces), got)
	}

	// Each of the others is a trace of its own, linked to the publishing.
	linked := slices.Concat(spans["process orders"], spans["to-kafka: send orders"], spans["to-hooks: send orders"])
	for _, s := range linked {
		if s.Parent.IsValid() || len(s.Links) != 1 || !s.Links[0].SpanContext.Equal(published.SpanContext.WithRemote(true)) {
			t.Errorf("%q has the parent %v, and links %+v; want a link to %v", s.Name, s.Parent, s.Links, published.SpanContext)
		}
	}
	if mail, call := spans["process orders"][0], spans["smtp"][0]; mail.SpanKind != trace.SpanKindConsumer || call.Parent.SpanID() != mail.SpanContext.SpanID() {
		t.Errorf("the handler's span is a %v, and what it calls has the parent %v", mail.SpanKind, call.Parent)
	}

	// Kafka.
	sent := spans["to-kafka: send orders"][0]
	uid := attributes(published.Attributes)["messaging.message.id"]
	want := map[string]any{
		"messaging.system": "kafka", "messaging.operation.name": "send", "messaging.operation.type": "send", "messaging.destination.name": "orders",
		"messaging.message.id": uid, "messaging.kafka.message.key": "A-17",
		"signalbox.outbox": "outbox", "signalbox.subscription": "to-kafka", "signalbox.topic": "orders", "signalbox.attempt": int64(1),
	}
	compare(t, "the span to Kafka", attributes(sent.Attributes), want)
	if sent.SpanKind != trace.SpanKindProducer || sent.Status.Code != 0 {
		t.Errorf("the span to Kafka is a %v, %+v", sent.SpanKind, sent.Status)
	}
	compare(t, "the record", map[string]any{
		"traceparent": header(record, "traceparent"), "ce_traceparent": header(record, "ce_traceparent"), "ce_id": header(record, "ce_id"),
	}, map[string]any{"traceparent": parentOf(sent.SpanContext), "ce_traceparent": parentOf(published.SpanContext), "ce_id": uid})

	// The webhook: each request is of its own attempt.
	for i, s := range spans["to-hooks: send orders"] {
		want := map[string]any{
			"messaging.system": "webhook", "messaging.operation.name": "send", "messaging.operation.type": "send", "messaging.destination.name": "orders",
			"messaging.message.id": uid, "signalbox.outbox": "outbox", "signalbox.subscription": "to-hooks", "signalbox.topic": "orders", "signalbox.attempt": int64(i + 1),
		}
		got := attributes(s.Attributes)
		if kind, failed := got["error.type"]; failed != (i < 2) || failed != (s.Status.Code != 0) {
			t.Errorf("attempt %d: error.type is %v, %+v", i+1, kind, s.Status)
		}
		delete(got, "error.type")
		compare(t, fmt.Sprint("attempt ", i+1), got, want)
		mu.Lock()
		h := requests[i]
		mu.Unlock()
		if h.Get("traceparent") != parentOf(s.SpanContext) || h.Get("ce-traceparent") != parentOf(published.SpanContext) || h.Get("webhook-id") != uid {
			t.Errorf("request %d has %v, want %v", i+1, h, parentOf(s.SpanContext))
		}
	}
}

func parentOf(s trace.SpanContext) string {
	return fmt.Sprintf("00-%s-%s-%s", s.TraceID(), s.SpanID(), s.TraceFlags())
}

func attributes(list []attribute.KeyValue) map[string]any {
	values := map[string]any{}
	for _, a := range list {
		values[string(a.Key)] = a.Value.AsInterface()
	}
	return values
}

func compare(t *testing.T, what string, got, want map[string]any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w { // maps are printed in order
		t.Errorf("%s has\n%s, want\n%s", what, g, w)
	}
}

func header(r *kgo.Record, name string) any {
	var values []string
	for _, h := range r.Headers {
		if strings.EqualFold(h.Key, name) {
			values = append(values, string(h.Value))
		}
	}
	return strings.Join(values, " and ")
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// topic creates a topic, and waits until the broker knows of it.
func topic(t *testing.T, b *broker.Broker, name string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, name); err != nil {
		t.Fatal(err)
	}
	await(t, "the topic", func() bool {
		details, err := admin.ListTopics(t.Context(), name)
		return err == nil && details.Has(name) && details[name].Partitions.NumReplicas() > 0
	})
}

// consume returns the first record of a topic.
func consume(t *testing.T, b *broker.Broker, topic string) *kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		if records := client.PollFetches(ctx).Records(); len(records) > 0 {
			return records[0]
		}
		if ctx.Err() != nil {
			t.Fatal("no record came")
		}
	}
}
