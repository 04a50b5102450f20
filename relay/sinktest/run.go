package sinktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

// patience is how long something may take that has to happen.
const patience = 2 * time.Minute

// attemptTimeout is how long an attempt may take.
const attemptTimeout = 5 * time.Second

const subscription = "relay"

// Run tests a sink.
func Run(t *testing.T, target Target) { //nolint:paralleltest // they stop one system
	for _, test := range []struct {
		name    string
		missing string // of the target, without which the test is skipped
		run     func(t *testing.T, b *bench)
	}{
		{"delivers in order", "", testDelivers},
		{"carries the trace", "", testTrace},
		{"answers once", "", testAnswersOnce},
		{"checks destinations", "", testCheck},
		{"poison is a dead letter", lacks(target.TooLarge == 0, "TooLarge"), testPoison},
		{"refused messages are dead letters", lacks(target.Refused == "", "Refused"), testRefused},
		{"missing destination is an outage", lacks(target.Missing == "", "Missing"), testMissing},
		{"outage", lacks(target.Stop == nil, "Stop"), testOutage},
		{"reconnects under load", lacks(target.Stop == nil, "Stop"), testReconnects},
		{"hiccups", lacks(target.Hiccup == nil, "Hiccup"), testHiccups},
		{"frozen system", lacks(target.Freeze == nil, "Freeze"), testFrozen},
		{"shutdown", "", testShutdown},
		{"shutdown while frozen", lacks(target.Freeze == nil, "Freeze"), testFrozenShutdown},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.missing != "" {
				t.Skipf("the target has no %s", test.missing)
			}
			test.run(t, newBench(t, target))
		})
	}
}

func lacks(missing bool, name string) string {
	if missing {
		return name
	}
	return ""
}

// A bench is what one test works with.
type bench struct {
	Target
	db          *pgtest.DB
	destination string
	published   []outbox.Event
	middleware  []worker.AsyncMiddleware // of workers that start from now on
}

func newBench(t *testing.T, target Target) *bench {
	return &bench{Target: target, db: pgtest.New(t), destination: target.Destination(t)}
}

// publish publishes n events, with one of so many keys each, or without one.
func (b *bench) publish(t *testing.T, n, keys int, extra ...outbox.Event) {
	t.Helper()
	events := make([]outbox.Event, n)
	for i := range events {
		number := len(b.published) + i
		events[i] = outbox.Event{
			Topic: "test.happened", Payload: json.RawMessage(fmt.Sprintf(`{"n": %d, "text": "größe \u00e9"}`, number)),
			Headers: map[string]string{"tenant": fmt.Sprint("tenant-", number%7), "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
		}
		if key := number % (keys + 1); key > 0 {
			events[i].Key = fmt.Sprint("key-", key)
		}
	}
	done, err := outbox.Publish(t.Context(), b.db.Pool, append(events, extra...)...)
	if err != nil {
		t.Fatal(err)
	}
	b.published = append(b.published, done...)
}

// start runs a worker that relays to a new sink. The returned function stops it, closes the sink, and returns when nothing is in flight.
func (b *bench) start(t *testing.T, route relay.Router) (stop func()) {
	t.Helper()
	sink := b.New(t)
	w, err := worker.New(b.db.Pool, worker.Config{
		Logger:          slog.New(slog.NewTextHandler(t.Output(), nil)),
		PollInterval:    100 * time.Millisecond,
		ShutdownTimeout: 2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if route == nil {
		route = func(e *outbox.Event) (relay.Route, error) {
			return relay.Route{Destination: b.destination, Key: e.Key}, nil
		}
	}
	s := worker.Subscription{
		Name: subscription, Topics: []string{">"}, Timeout: attemptTimeout,
		Retry: worker.Retry{MaxAttempts: 20, Delay: func(int) time.Duration { return 50 * time.Millisecond }}, AsyncMiddleware: b.middleware,
	}
	if err := relay.Handle(w, s, counted{sink, t}, relay.Config{Route: route, Encoding: relay.Plain}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the worker ended with %v", err)
		}
		if err := sink.Close(); err != nil {
			t.Errorf("Close returned %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// counted reports a sink that answers a message twice.
type counted struct {
	relay.Sink
	t *testing.T
}

func (c counted) Send(ctx context.Context, m *relay.Message, done func(error)) {
	var once sync.Mutex
	answered := false
	c.Sink.Send(ctx, m, func(err error) {
		once.Lock()
		defer once.Unlock()
		if answered {
			c.t.Errorf("message %s was answered twice, the second time with %v", m.ID, err)
		}
		answered = true
		done(err)
	})
}

// A row is a delivery that is left.
type row struct {
	ID      int64
	State   string
	Attempt int
	Errors  string
}

func (b *bench) rows(t *testing.T) []row {
	t.Helper()
	found, err := b.db.Pool.Query(t.Context(), `select d.event_id, d.state, d.attempt, d.errors::text from outbox.deliveries d order by d.event_id`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(found, pgx.RowToStructByPos[row])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// unfinished returns how many events are neither delivered nor dead.
func (b *bench) unfinished(t *testing.T) int64 {
	t.Helper()
	status, err := admin.GetStatus(t.Context(), b.db.Pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range status.Subscriptions {
		if s.Name == subscription {
			return s.Lag.Events + s.Deliveries["retrying"] + s.Deliveries[admin.Blocked] + s.Deliveries["running"]
		}
	}
	return int64(len(b.published))
}

// drain waits until nothing is unfinished. It has open breakers probe.
func (b *bench) drain(t *testing.T) {
	t.Helper()
	eventually(t, "all is settled", func() bool {
		if b.unfinished(t) == 0 {
			return true
		}
		b.probe(t)
		return false
	})
}

// probe has workers with an open breaker try at once.
func (b *bench) probe(t *testing.T) {
	t.Helper()
	if err := admin.Probe(t.Context(), b.db.Pool, subscription); err != nil && !errors.Is(err, outbox.ErrUnknownSubscription) {
		t.Fatal(err)
	}
}

// check compares what was published with what was received: nothing is lost, nothing is made up, nothing was changed, and the keys are in order.
// If once, nothing comes twice.
func (b *bench) check(t *testing.T, once bool) {
	t.Helper()
	repeated := 0
	byID := map[string]*outbox.Event{}
	for i := range b.published {
		byID[b.published[i].UID] = &b.published[i]
	}
	seen, last := map[string]bool{}, map[string]int64{}
	received := b.Received(t, b.destination)
	for _, m := range received {
		e := byID[m.ID]
		switch {
		case e == nil:
			t.Errorf("phantom: message %q was never published", m.ID)
			continue
		case seen[m.ID]:
			repeated++
			continue
		case !b.Unkeyed && m.Key != e.Key:
			t.Errorf("message %s has the key %q, its event %q", m.ID, m.Key, e.Key)
		case string(m.Body) != string(e.Payload):
			t.Errorf("message %s has the body %s, its event %s", m.ID, m.Body, e.Payload)
		}
		for name, value := range e.Headers {
			if got := header(m.Headers, name); got != value {
				t.Errorf("message %s has %q in header %s, its event %q", m.ID, got, name, value)
			}
		}
		seen[m.ID] = true
		if e.Key != "" && e.ID < last[e.Key] {
			t.Errorf("order: event %d of key %s came after event %d", e.ID, e.Key, last[e.Key])
		}
		last[e.Key] = max(last[e.Key], e.ID)
	}
	lost := 0
	for id, e := range byID {
		if !seen[id] {
			if lost++; lost <= 3 {
				t.Errorf("lost: event %d (key %q) was not received", e.ID, e.Key)
			}
		}
	}
	if lost > 0 {
		t.Errorf("lost %d of %d", lost, len(byID))
	}
	if once && repeated > 0 {
		t.Errorf("%d messages came twice, and nothing had failed", repeated)
	}
	t.Logf("%d published, %d received, %d of them again", len(b.published), len(received), repeated)
}

func header(headers map[string]string, name string) string {
	for n, value := range headers {
		if strings.EqualFold(n, name) {
			return value
		}
	}
	return ""
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for start := time.Now(); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
