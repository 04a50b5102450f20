package otel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/otel"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

// A shelf is a sink that keeps what it is sent, with the context, and answers as it is told.
type shelf struct {
	answer func(m *relay.Message) error

	mu   sync.Mutex
	sent []*relay.Message
	in   []trace.SpanContext
}

func (s *shelf) Send(ctx context.Context, m *relay.Message, done func(error)) {
	s.mu.Lock()
	s.sent, s.in = append(s.sent, m), append(s.in, trace.SpanContextFromContext(ctx))
	s.mu.Unlock()
	go func() { done(s.answer(m)) }()
}

func (*shelf) Pipelined() bool                       { return false }
func (*shelf) Check(context.Context, []string) error { return nil }
func (*shelf) Close() error                          { return nil }
func (*shelf) Describe(out *worker.Outgoing, m *relay.Message) {
	out.System, out.Destination = "shelf", "board:"+m.Destination
	out.Attributes = []slog.Attr{slog.String("shelf.key", m.Key), slog.Bool("shelf.tall", true), slog.Int("shelf.height", 7)}
}

// messages waits for n messages that were sent.
func (s *shelf) messages(t *testing.T, n int) []*relay.Message {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		s.mu.Lock()
		sent := slices.Clone(s.sent)
		s.mu.Unlock()
		if len(sent) >= n {
			return sent
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages were sent, want %d", len(sent), n)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// named waits for n ended spans whose names begin so, and returns them in the order in which they began.
func (r *recording) named(t *testing.T, prefix string, n int) tracetest.SpanStubs {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		found := slices.DeleteFunc(r.GetSpans(), func(s tracetest.SpanStub) bool { return !strings.HasPrefix(s.Name, prefix) })
		if len(found) >= n || time.Now().After(deadline) {
			if len(found) != n {
				t.Fatalf("there are %d spans %q, want %d: %+v", len(found), prefix, n, found)
			}
			slices.SortFunc(found, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
			return found
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func parentOf(s trace.SpanContext) string {
	return fmt.Sprintf("00-%s-%s-%s", s.TraceID(), s.SpanID(), s.TraceFlags())
}

// TestRelay follows an event from a request through a relay whose sink refuses it at first, and would have it tried again in three hours: an operator
// does that sooner. Each attempt is a span of a trace of its own, linked to the one that published the event, and the message carries its context.
func TestRelay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := record(t)
	tracer := r.tracer()
	ctx, request := r.provider.Tracer("shop").Start(t.Context(), "POST /orders", trace.WithSpanKind(trace.SpanKindServer))
	var stored []outbox.Event
	err := pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) (err error) {
		stored, err = tracer.Publish(ctx, tx, outbox.Event{Topic: "orders.placed", Key: "A-17", Payload: json.RawMessage("1"), Headers: map[string]string{"tracestate": "stale=1"}})
		return err
	})
	request.End()
	if err != nil {
		t.Fatal(err)
	}
	var sends atomic.Int64
	sink := &shelf{answer: func(*relay.Message) error {
		if sends.Add(1) == 1 {
			return worker.RetryAfter(3*time.Hour, errors.New("full"))
		}
		return nil
	}}
	route, err := relay.Template("shop.{key}")
	if err != nil {
		t.Fatal(err)
	}
	run(t, db, worker.Config{}, func(w *worker.Worker) error {
		s := worker.Subscription{Name: "to-shelf", Topics: []string{">"}, AsyncMiddleware: []worker.AsyncMiddleware{tracer.AsyncMiddleware}}
		return relay.Handle(w, s, sink, relay.Config{Source: "/shop", Route: route})
	})
	r.named(t, "send ", 1)
	deadline := time.Now().Add(time.Minute)
	for n := int64(0); n == 0 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) { // it is recorded a moment later
		if n, err = admin.RetryDeliveries(t.Context(), db.Pool, admin.DeliveryFilter{Subscription: "to-shelf", States: []outbox.State{outbox.Retrying}}); err != nil {
			t.Fatal(err)
		}
	}
	messages, spans := sink.messages(t, 2), r.named(t, "send ", 2)
	published := r.named(t, "publish ", 1)[0]

	traces := map[trace.TraceID]bool{request.SpanContext().TraceID(): true}
	for i, span := range spans {
		want := map[string]any{
			"messaging.system": "shelf", "messaging.operation.name": "send", "messaging.operation.type": "send",
			"messaging.destination.name": "board:shop.A-17", "messaging.destination.template": "shop.{key}", "messaging.message.id": stored[0].UID,
			"signalbox.outbox": "outbox", "signalbox.subscription": "to-shelf", "signalbox.topic": "orders.placed", "signalbox.attempt": int64(1), // an operator's retry has all attempts again
			"shelf.key": "A-17", "shelf.tall": true, "shelf.height": int64(7),
		}
		status := sdktrace.Status{}
		if i == 0 {
			want["error.type"] = "retry_after"
			status = sdktrace.Status{Code: codes.Error, Description: "retry after 3h0m0s: full"}
		}
		if diff := cmp.Diff(want, attributes(span.Attributes)); diff != "" {
			t.Errorf("attributes of attempt %d:\n%s", i+1, diff)
		}
		if span.Name != "send shop.{key}" || span.SpanKind != trace.SpanKindProducer || span.Status != status {
			t.Errorf("attempt %d is %q, a %v, %+v", i+1, span.Name, span.SpanKind, span.Status)
		}
		if id := span.SpanContext.TraceID(); span.Parent.IsValid() || traces[id] {
			t.Errorf("attempt %d is no trace of its own: %v, parent %v", i+1, id, span.Parent)
		}
		traces[span.SpanContext.TraceID()] = true
		if len(span.Links) != 1 || !span.Links[0].SpanContext.Equal(published.SpanContext.WithRemote(true)) {
			t.Errorf("links of attempt %d: %+v, want one to %v", i+1, span.Links, published.SpanContext)
		}
		headers := maps.Clone(messages[i].Headers)
		for _, name := range []string{"ce-id", "ce-source", "ce-specversion", "ce-type", "ce-time", "ce-subject", "ce-partitionkey", "ce-sequence"} {
			delete(headers, name)
		}
		// The message says where it comes from, and the CloudEvent where all began.
		if diff := cmp.Diff(map[string]string{"traceparent": parentOf(span.SpanContext), "ce-traceparent": parentOf(published.SpanContext)}, headers); diff != "" {
			t.Errorf("headers in attempt %d:\n%s", i+1, diff)
		}
		if !sink.in[i].Equal(span.SpanContext) {
			t.Errorf("the sink was called in %v, want %v", sink.in[i], span.SpanContext)
		}
	}
	for _, span := range r.GetSpans() {
		if span.SpanContext.TraceID() == request.SpanContext().TraceID() && span.EndTime.After(spans[0].StartTime) {
			t.Errorf("%q stretches the trace of the request", span.Name)
		}
	}
}

// TestRelayOfPublishers has events of all kinds of publishers: what they say about traces, right or wrong, is linked to or not, and what the message says is
// the span that sends it.
func TestRelayOfPublishers(t *testing.T) {
	t.Parallel()
	const sampled, not = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	const later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes" // of a version that is yet to come
	for name, test := range map[string]struct {
		headers     map[string]string
		link        string // of the span
		state       string // of the link
		began       string // as the CloudEvent has it; "" if it began with the span
		beganState  string
		notSampling bool
		unset       bool // there is no TracerProvider
	}{
		"none":              {},
		"in SQL":            {headers: map[string]string{"traceparent": sampled}, link: sampled, began: sampled},
		"with state":        {headers: map[string]string{"traceparent": sampled, "tracestate": "a=1"}, link: sampled, state: "a=1", began: sampled, beganState: "a=1"},
		"in upper case":     {headers: map[string]string{"Traceparent": sampled, "TraceState": "a=1"}, link: sampled, state: "a=1", began: sampled, beganState: "a=1"},
		"not sampled":       {headers: map[string]string{"traceparent": not}, link: not, began: not},
		"newer":             {headers: map[string]string{"traceparent": later}, link: sampled, began: later},
		"malformed":         {headers: map[string]string{"traceparent": "00-4bf92f35-00f067aa0ba902b7-01", "tracestate": "a=1"}, began: "00-4bf92f35-00f067aa0ba902b7-01", beganState: "a=1"},
		"only state":        {headers: map[string]string{"tracestate": "a=1"}},
		"empty":             {headers: map[string]string{"traceparent": ""}},
		"sampler drops":     {headers: map[string]string{"traceparent": sampled, "tracestate": "a=1"}, began: sampled, beganState: "a=1", notSampling: true},
		"no TracerProvider": {headers: map[string]string{"traceparent": sampled, "tracestate": "a=1"}, began: sampled, beganState: "a=1", unset: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			r := record(t)
			tracer := r.tracer()
			switch {
			case test.notSampling:
				tracer = otel.NewTracer(otel.Config{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))})
			case test.unset:
				tracer = otel.NewTracer(otel.Config{})
			}
			if _, err := db.Pool.Exec(t.Context(), `
				insert into outbox.events (topic, payload, headers)
				values ('a', '1', coalesce($1::jsonb, '{}'))`, test.headers); err != nil {
				t.Fatal(err)
			}
			sink := &shelf{answer: func(*relay.Message) error { return nil }}
			run(t, db, worker.Config{}, func(w *worker.Worker) error {
				s := worker.Subscription{Name: "s", Topics: []string{">"}, AsyncMiddleware: []worker.AsyncMiddleware{tracer.AsyncMiddleware}}
				return relay.Handle(w, s, sink, relay.Config{Source: "/shop"})
			})
			m := sink.messages(t, 1)[0]
			var parent, state []string
			for name, value := range m.Headers {
				switch strings.ToLower(name) {
				case "traceparent":
					parent = append(parent, value)
				case "tracestate":
					state = append(state, value)
				}
			}
			if test.unset {
				if !slices.Equal(parent, []string{sampled}) || !slices.Equal(state, []string{"a=1"}) {
					t.Errorf("the message has %v", m.Headers)
				}
				return
			}
			if !slices.Equal(parent, []string{parentOf(sink.in[0])}) || len(state) > 0 || sink.in[0].IsSampled() == test.notSampling {
				t.Errorf("the message has %v, want %v", m.Headers, sink.in[0])
			}
			if test.began == "" {
				test.began = parent[0]
			}
			if m.Headers["ce-traceparent"] != test.began || m.Headers["ce-tracestate"] != test.beganState {
				t.Errorf("the CloudEvent has %v, want %s, %s", m.Headers, test.began, test.beganState)
			}
			if test.notSampling {
				return
			}
			span := r.named(t, "send board:a", 1)[0]
			if test.link == "" {
				if len(span.Links) > 0 {
					t.Errorf("links: %+v", span.Links)
				}
				return
			}
			if len(span.Links) != 1 || parentOf(span.Links[0].SpanContext) != test.link || span.Links[0].SpanContext.TraceState().String() != test.state {
				t.Errorf("links: %+v, want %s, %s", span.Links, test.link, test.state)
			}
		})
	}
}

// TestAsync has a handler of one's own, without a relay, answer, fail, never answer, and a relay that knows no route: the spans are those of handling, and each ends.
func TestAsync(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := record(t)
	tracer := r.tracer()
	topics := map[string]string{"ok": "", "refused": "*errors.errorString", "skip": "", "dead": "dead_letter", "never": "timeout"}
	for topic := range topics {
		if _, err := tracer.Publish(t.Context(), db.Pool, event(topic)); err != nil {
			t.Fatal(err)
		}
	}
	s := worker.Subscription{
		Name: "own", Topics: []string{">"}, Timeout: 2 * time.Second, Retry: worker.Retry{MaxAttempts: 1}, BreakerAfter: worker.Unlimited,
		AsyncMiddleware: []worker.AsyncMiddleware{tracer.AsyncMiddleware},
	}
	unrouted := s
	unrouted.Name, unrouted.Topics = "unrouted", []string{"ok"}
	run(t, db, worker.Config{}, func(w *worker.Worker) error {
		return errors.Join(
			worker.HandleAsync(w, s, worker.Strict, func(_ context.Context, e *worker.Event[json.RawMessage], done func(error)) {
				switch e.Topic {
				case "ok":
					done(nil)
				case "refused":
					done(errors.New("refused"))
				case "skip":
					done(worker.Skip("a sample"))
				case "dead":
					done(worker.DeadLetter(errors.New("refused")))
				}
			}),
			relay.Handle(w, unrouted, &shelf{}, relay.Config{Encoding: relay.Plain, Route: func(*outbox.Event) (relay.Route, error) { return relay.Route{}, errors.New("no route") }}))
	})
	for _, span := range r.spans(t, trace.SpanKindConsumer, len(topics)+1) {
		got := attributes(span.Attributes)
		want := topics[strings.TrimPrefix(span.Name, "process ")]
		if got["messaging.destination.subscription.name"] == "unrouted" {
			want = "dead_letter"
		}
		if kind, _ := got["error.type"].(string); kind != want || (span.Status.Code == codes.Error) != (want != "") || got["messaging.system"] != "signalbox" || len(span.Links) != 1 {
			t.Errorf("%q: %v, %+v; want %q", span.Name, got, span.Status, want)
		}
	}
}
