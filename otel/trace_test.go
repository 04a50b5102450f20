package otel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// again has failed events tried again at once.
var again = worker.Retry{MaxAttempts: 5, Delay: func(int) time.Duration { return 0 }}

// TestTrace follows an event from a request's span through a transaction to a handler that fails twice: each attempt is a span of a trace of
// its own, linked to the one that published the event, and the request's trace ends with the request.
func TestTrace(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := record(t)
	tracer := r.tracer()

	ctx, request := r.provider.Tracer("shop").Start(t.Context(), "POST /orders", trace.WithSpanKind(trace.SpanKindServer))
	given := event("orders.placed")
	var stored []outbox.Event
	err := pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) (err error) {
		stored, err = tracer.Publish(ctx, tx, given)
		return err
	})
	request.End()
	if err != nil {
		t.Fatal(err)
	}
	if len(given.Headers) != 1 {
		t.Errorf("the caller's headers were changed: %v", given.Headers)
	}
	run(t, db, worker.Config{}, func(w *worker.Worker) error {
		s := worker.Subscription{Name: "mails", Topics: []string{">"}, Retry: again, Middleware: []worker.Middleware{tracer.Middleware}}
		return worker.Handle(w, s, func(ctx context.Context, e *worker.Event[json.RawMessage]) error {
			_, call := r.provider.Tracer("shop").Start(ctx, "smtp", trace.WithSpanKind(trace.SpanKindClient))
			call.End()
			switch e.Attempt {
			case 1:
				return fmt.Errorf("send: %w", errors.New("connection refused\nand more"))
			case 2:
				panic("no such template")
			}
			return nil
		})
	})
	attempts, calls := r.spans(t, trace.SpanKindConsumer, 3), r.spans(t, trace.SpanKindClient, 3)
	published := r.spans(t, trace.SpanKindProducer, 1)[0]

	if published.Name != "publish orders.placed" || published.Parent.SpanID() != request.SpanContext().SpanID() {
		t.Errorf("published in %q, a child of %v; want one of the request's, %v", published.Name, published.Parent, request.SpanContext())
	}
	if diff := cmp.Diff(map[string]any{
		"messaging.system": "signalbox", "signalbox.outbox": "outbox", "messaging.operation.name": "publish", "messaging.operation.type": "send",
		"messaging.destination.name": "orders.placed", "messaging.message.id": stored[0].UID,
	}, attributes(published.Attributes)); diff != "" {
		t.Errorf("attributes of publishing:\n%s", diff)
	}
	traces := map[trace.TraceID]bool{request.SpanContext().TraceID(): true}
	for i, span := range attempts {
		want := map[string]any{
			"messaging.system": "signalbox", "signalbox.outbox": "outbox", "messaging.operation.name": "process", "messaging.operation.type": "process",
			"messaging.destination.name": "orders.placed", "messaging.destination.subscription.name": "mails", "messaging.message.id": stored[0].UID,
			"signalbox.attempt": int64(i + 1),
		}
		status := tracetest.SpanStub{}.Status
		switch i {
		case 0:
			want["error.type"] = "*errors.errorString"
			status.Code, status.Description = codes.Error, "send: connection refused"
		case 1:
			status.Code, status.Description = codes.Error, "the handler panicked or ended its goroutine"
			if !slices.ContainsFunc(span.Events, func(e sdktrace.Event) bool { return e.Name == "exception" }) {
				t.Errorf("the panic is not in the span: %+v", span.Events)
			}
		}
		if diff := cmp.Diff(want, attributes(span.Attributes)); diff != "" {
			t.Errorf("attributes of attempt %d:\n%s", i+1, diff)
		}
		if span.Name != "process orders.placed" || span.Status != status {
			t.Errorf("attempt %d is %q, %+v; want status %+v", i+1, span.Name, span.Status, status)
		}
		if id := span.SpanContext.TraceID(); span.Parent.IsValid() || traces[id] {
			t.Errorf("attempt %d is not a trace of its own: %v, parent %v", i+1, id, span.Parent)
		}
		traces[span.SpanContext.TraceID()] = true
		if len(span.Links) != 1 || span.Links[0].SpanContext.SpanID() != published.SpanContext.SpanID() ||
			span.Links[0].SpanContext.TraceID() != request.SpanContext().TraceID() || attributes(span.Links[0].Attributes)["messaging.message.id"] != stored[0].UID {
			t.Errorf("links of attempt %d: %+v; want one to %v", i+1, span.Links, published.SpanContext)
		}
		if calls[i].Parent.SpanID() != span.SpanContext.SpanID() {
			t.Errorf("what the handler does in attempt %d is not in its span", i+1)
		}
	}
}

// TestBatch publishes some events in one span and others in another, one by SQL, and one without a trace: a batch of them all is a span with a link to
// each of the publishing spans.
func TestBatch(t *testing.T) {
	t.Parallel()
	forms := map[string]func(w *worker.Worker, s worker.Subscription, handle func(n int) error) error{
		"HandleBatch": func(w *worker.Worker, s worker.Subscription, handle func(n int) error) error {
			return worker.HandleBatch(w, s, func(_ context.Context, events []*worker.Event[json.RawMessage]) error { return handle(len(events)) })
		},
		"HandleBatchTx": func(w *worker.Worker, s worker.Subscription, handle func(n int) error) error {
			return worker.HandleBatchTx(w, s, func(_ context.Context, _ pgx.Tx, events []*worker.Event[json.RawMessage]) error {
				return handle(len(events))
			})
		},
	}
	for name, register := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			r := record(t)
			tracer := r.tracer()
			if _, err := tracer.Publish(t.Context(), db.Pool, event("a.x"), event("a.y")); err != nil {
				t.Fatal(err)
			}
			n, err := tracer.PublishFrom(t.Context(), db.Pool, func(yield func(outbox.Event, error) bool) { yield(event("a.x"), nil) })
			if err != nil || n != 1 {
				t.Fatalf("copied %d events, %v", n, err)
			}
			const inSQL = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
			var inSQLs string
			if err := db.Pool.QueryRow(t.Context(), `
				insert into outbox.events (topic, payload, headers) values ('a.x', '1', jsonb_build_object('traceparent', $1::text, 'tracestate', 'vendor=1'))
				returning outbox.uid(id, published_at)::text`, inSQL).Scan(&inSQLs); err != nil {
				t.Fatal(err)
			}
			if _, err := outbox.Publish(t.Context(), db.Pool, event("a.x")); err != nil {
				t.Fatal(err)
			}
			run(t, db, worker.Config{}, func(w *worker.Worker) error {
				s := worker.Subscription{Name: "s", Topics: []string{">"}, Middleware: []worker.Middleware{tracer.Middleware}}
				return register(w, s, func(n int) error {
					if n != 5 {
						t.Errorf("a batch of %d events", n)
					}
					return nil
				})
			})
			span := r.spans(t, trace.SpanKindConsumer, 1)[0]
			published := r.spans(t, trace.SpanKindProducer, 2)
			if got := attributes(span.Attributes); span.Name != "process" || got["messaging.batch.message_count"] != int64(5) ||
				got["messaging.message.id"] != nil || got["messaging.destination.name"] != nil {
				t.Errorf("%q: %v", span.Name, got)
			}
			for i, want := range []int64{2, 1} {
				if got := attributes(published[i].Attributes)["messaging.batch.message_count"]; got != want {
					t.Errorf("%q published %v events, want %d", published[i].Name, got, want)
				}
			}
			if len(span.Links) != 3 {
				t.Fatalf("links: %+v", span.Links)
			}
			for i, want := range published {
				if got := span.Links[i].SpanContext; got.SpanID() != want.SpanContext.SpanID() || got.TraceID() != want.SpanContext.TraceID() {
					t.Errorf("link %d is to %+v, want %+v", i, got, want.SpanContext)
				}
			}
			if got := attributes(span.Links[0].Attributes); len(got) != 0 {
				t.Errorf("the link for two events says %v", got)
			}
			last := span.Links[2]
			if got := "00-" + last.SpanContext.TraceID().String() + "-" + last.SpanContext.SpanID().String() + "-01"; got != inSQL ||
				last.SpanContext.TraceState().Get("vendor") != "1" || attributes(last.Attributes)["messaging.message.id"] != inSQLs {
				t.Errorf("the link to what published in SQL is %+v, want %s", last, inSQL)
			}
		})
	}
}

// TestTx has a transactional handler fail at first: the events of a window share its transaction, and each attempt at each event is a span of its own.
func TestTx(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := record(t)
	tracer := r.tracer()
	const all = 3
	for range all {
		if _, err := tracer.Publish(t.Context(), db.Pool, event("a")); err != nil {
			t.Fatal(err)
		}
	}
	var calls, done atomic.Int64 // one that failed may be called again alone, in the same attempt
	run(t, db, worker.Config{}, func(w *worker.Worker) error {
		s := worker.Subscription{Name: "s", Topics: []string{">"}, Retry: again, Middleware: []worker.Middleware{tracer.Middleware}}
		return worker.HandleTx(w, s, func(ctx context.Context, tx pgx.Tx, e *worker.Event[json.RawMessage]) error {
			if !trace.SpanContextFromContext(ctx).IsValid() {
				t.Error("the handler's context has no span")
			}
			calls.Add(1)
			if _, err := tx.Exec(ctx, "select 1"); err != nil || e.Attempt > 1 {
				done.Add(1)
				return err
			}
			return errors.New("at its first attempt")
		})
	})
	links := map[trace.SpanID]int{}
	failed := 0
	for deadline := time.Now().Add(time.Minute); done.Load() < all; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not all are handled")
		}
	}
	for _, span := range r.spans(t, trace.SpanKindConsumer, int(calls.Load())) {
		if len(span.Links) != 1 || span.Parent.IsValid() {
			t.Fatalf("%q has the parent %v, and links %+v", span.Name, span.Parent, span.Links)
		}
		links[span.Links[0].SpanContext.SpanID()]++
		if span.Status.Code == codes.Error {
			failed++
		}
	}
	for _, published := range r.spans(t, trace.SpanKindProducer, all) {
		if n := links[published.SpanContext.SpanID()]; n < 2 {
			t.Errorf("%d spans are linked to %v, want 2 at least", n, published.SpanContext)
		}
	}
	if want := int(calls.Load()) - all; failed != want {
		t.Errorf("%d spans have failed, want %d", failed, want)
	}
}

// TestOutcomes has handlers put an event off and set one aside, which is no failure, also not in a batch, and give one up, which is.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := record(t)
	tracer := r.tracer()
	for _, topic := range []string{"skip", "snooze", "dead", "timeout"} {
		if _, err := tracer.Publish(t.Context(), db.Pool, event(topic)); err != nil {
			t.Fatal(err)
		}
	}
	s := worker.Subscription{Name: "each", Topics: []string{">"}, Middleware: []worker.Middleware{tracer.Middleware}}
	batch := s
	batch.Name, batch.Topics = "batch", []string{"skip", "snooze", "dead"}
	s.Retry.MaxAttempts = 1
	outcome := func(topic string) error {
		switch topic {
		case "skip":
			return worker.Skip("a sample")
		case "snooze":
			return worker.Snooze(time.Hour)
		case "timeout":
			return fmt.Errorf("send: %w", context.DeadlineExceeded)
		}
		return worker.DeadLetter(errors.New("no such customer"))
	}
	run(t, db, worker.Config{}, func(w *worker.Worker) error {
		return errors.Join(
			worker.Handle(w, s, func(_ context.Context, e *worker.Event[json.RawMessage]) error { return outcome(e.Topic) }),
			worker.HandleBatch(w, batch, func(_ context.Context, events []*worker.Event[json.RawMessage]) error {
				var errs []error
				for _, e := range events {
					errs = append(errs, outcome(e.Topic))
				}
				return worker.PerEvent(errs)
			}))
	})
	want := map[string]any{"process skip": nil, "process snooze": nil, "process dead": "dead_letter", "process timeout": "timeout", "process": "dead_letter"}
	for _, span := range r.spans(t, trace.SpanKindConsumer, len(want)) {
		kind, known := want[span.Name]
		if got := attributes(span.Attributes)["error.type"]; !known || got != kind || (span.Status.Code == codes.Error) != (kind != nil) {
			t.Errorf("%q: %+v, error.type %v; want %v", span.Name, span.Status, got, kind)
		}
	}
}

// TestPassedOn publishes an event that came with a trace, and one without any span to trace it to.
func TestPassedOn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := event("a")
	e.Headers = map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}
	stored, err := record(t).tracer().Publish(t.Context(), db.Pool, e)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e.Headers, stored[0].Headers); diff != "" {
		t.Errorf("headers of an event that is passed on:\n%s", diff)
	}
	if stored, err := record(t).tracer().Publish(t.Context(), db.Pool); err != nil || stored != nil {
		t.Errorf("of none: %v, %v", stored, err)
	}
	// An error is the one of package outbox, and the span's.
	r := record(t)
	_, err = r.tracer().Publish(t.Context(), db.Pool, outbox.Event{Topic: "a..b"})
	span := r.spans(t, trace.SpanKindProducer, 1)[0]
	if !errors.As(err, new(*outbox.EventError)) || span.Status.Code != codes.Error {
		t.Errorf("got %v, status %+v", err, span.Status)
	}
}
