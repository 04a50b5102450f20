package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// A site is a dashboard under test, with its database.
type site struct {
	*pgtest.DB
	handler *Handler
	url     string // of the overview
	log     *journal
}

// newSite serves a dashboard below a prefix, as an application would.
func newSite(t *testing.T, config Config) *site {
	t.Helper()
	return serve(t, pgtest.New(t), config)
}

func serve(t *testing.T, db *pgtest.DB, config Config) *site {
	t.Helper()
	s := &site{DB: db, log: &journal{}}
	config.Logger = slog.New(slog.NewJSONHandler(s.log, nil))
	var err error
	if s.handler, err = NewHandler(db.Pool, config); err != nil {
		t.Fatal(err)
	}
	s.handler.every = 200 * time.Millisecond // tests have no patience
	mux := http.NewServeMux()
	mux.Handle("/ops/outbox/", http.StripPrefix("/ops/outbox", s.handler))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(s.handler.Close)
	s.url = server.URL + "/ops/outbox/"
	return s
}

// A journal is a log that tests read.
type journal struct {
	mu   sync.Mutex
	text []byte
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text = append(j.text, p...)
	return len(p), nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return string(j.text)
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 seconds, it is not so: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *site) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := s.Pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// publish appends an event and returns its id.
func (s *site) publish(t *testing.T, topic, key, payload string) int64 {
	t.Helper()
	list, err := outbox.Publish(t.Context(), s.Pool, outbox.Event{Topic: topic, Key: key, Payload: json.RawMessage(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return list[0].ID
}

func (s *site) subscribe(t *testing.T, name string, topics ...string) {
	t.Helper()
	if _, err := engine.Subscribe(t.Context(), s.Pool, name, topics, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
}

// bury makes dead letters of a subscription without any worker, from event ids from to to.
func (s *site) bury(t *testing.T, name string, from, to int, reason string) {
	t.Helper()
	s.exec(t, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, attempt, due_at, errors)
		select s.id, n, n % 64, 'orders.placed', 'A-' || n, jsonb_build_object('n', n), '{}', now(), 'dead', 3, now(),
		       jsonb_build_array(jsonb_build_object('attempt', 3, 'at', now(), 'worker', 'w', 'error', $4::text))
		from outbox.subscriptions s, generate_series($2::bigint, $3::bigint) n
		where s.name = $1`, name, from, to, reason)
}

// states counts a subscription's deliveries by state.
func (s *site) states(t *testing.T, name string) map[string]int {
	t.Helper()
	rows, err := s.Pool.Query(t.Context(), `
		select d.state from outbox.deliveries d join outbox.subscriptions s on s.id = d.subscription_id where s.name = $1`, name)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	counts := map[string]int{}
	for rows.Next() {
		var state string
		if err := rows.Scan(&state); err != nil {
			t.Fatal(err)
		}
		counts[state]++
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return counts
}

// A clerk is a worker whose handler fails while what it needs is away.
type clerk struct {
	away    atomic.Bool
	handled atomic.Int64
}

var errRefused = errors.New("connect to mail.example: connection refused")

// hire runs a worker of a subscription until the test ends.
func (s *site) hire(t *testing.T, name string, topics ...string) *clerk {
	t.Helper()
	w, err := worker.New(s.Pool, worker.Config{Name: name + "-1", Logger: slog.New(slog.DiscardHandler), PollInterval: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	c := &clerk{}
	sub := worker.Subscription{Name: name, Topics: topics, BreakerAfter: worker.Unlimited, Retry: worker.Retry{MaxAttempts: 2, InitialInterval: time.Millisecond}}
	if err := worker.Handle(w, sub, func(context.Context, *worker.Event[json.RawMessage]) error {
		if c.away.Load() {
			return errRefused
		}
		c.handled.Add(1)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	runWorker(t, w)
	return c
}

func runWorker(t *testing.T, w *worker.Worker) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
}

// fill makes a shop that has been busy for a while, with real workers: for pictures.
func (s *site) fill(t *testing.T) {
	t.Helper()
	type failing func(e *worker.Event[json.RawMessage]) error
	quiet := slog.New(slog.DiscardHandler)
	hire := func(name string, subs map[string]failing) {
		w, err := worker.New(s.Pool, worker.Config{Name: name, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		for sub, fail := range subs {
			topics := map[string][]string{
				"mails": {"orders.*", "customers.created"}, "billing": {"orders.>"}, "search": {">"}, "warehouse": {"orders.placed", "stock.>"},
			}[sub]
			cfg := worker.Subscription{Name: sub, Topics: topics, BreakerAfter: worker.Unlimited, Retry: worker.Retry{MaxAttempts: 3, InitialInterval: 30 * time.Millisecond}, StopKeyOnDead: sub == "warehouse"}
			if err := worker.Handle(w, cfg, func(_ context.Context, e *worker.Event[json.RawMessage]) error {
				return fail(e)
			}); err != nil {
				t.Fatal(err)
			}
		}
		runWorker(t, w)
	}
	fine := func(*worker.Event[json.RawMessage]) error { return nil }
	mails := func(e *worker.Event[json.RawMessage]) error {
		switch {
		case e.ID%97 == 0:
			return errors.New("smtp mail.example:25: connection refused\ngoroutine 41: mails.send(order)\n\tmails/send.go:88")
		case e.ID%331 == 0:
			return worker.DeadLetter(errors.New("the customer has no address"))
		case e.ID%405 == 0:
			return worker.RetryAfter(7*time.Minute, errors.New("rate limited: 429 Too Many Requests"))
		case e.ID%707 == 0:
			return worker.Skip("samples need no confirmation")
		}
		return nil
	}
	warehouse := func(e *worker.Event[json.RawMessage]) error {
		if e.Key == "A-17" || e.Key == "A-42" {
			return errors.New("shelf 9 is locked")
		}
		return nil
	}
	hire("web-1:4021", map[string]failing{"mails": mails, "billing": fine})
	hire("web-2:4188", map[string]failing{"mails": mails, "billing": fine})
	hire("store-1:977", map[string]failing{"warehouse": warehouse})
	s.subscribe(t, "search", ">")
	eventually(t, "the workers have the lanes", func() bool {
		list, err := admin.ListSubscriptions(t.Context(), s.Pool)
		return err == nil && len(list) == 4 && list[0].Owned+list[1].Owned+list[3].Owned == 3*engine.Lanes && len(list[1].Workers) == 2
	})
	topics := []string{"orders.placed", "orders.placed", "orders.paid", "orders.shipped", "customers.created", "stock.counted"}
	for range 6 {
		var events []outbox.Event
		for n := range 500 {
			topic := topics[n%len(topics)]
			e, err := outbox.NewEvent(topic, fmt.Sprintf("A-%d", n%200), map[string]any{
				"order": fmt.Sprintf("A-%d", n%200), "total": 1990 + n*7, "currency": "EUR", "paid": n%3 == 0, "voucher": nil,
				"customer": map[string]any{"name": "Zoë Müller", "country": "DE"}, "items": []map[string]any{{"sku": "TEA-100", "count": 2}, {"sku": "MUG-7", "count": 1}},
			})
			if err != nil {
				t.Fatal(err)
			}
			e.Headers = map[string]string{"traceparent": fmt.Sprintf("00-%032x-%016x-01", n+1, n+7), "source": "shop"}
			events = append(events, e)
		}
		if _, err := outbox.Publish(t.Context(), s.Pool, events...); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all is handled", func() bool {
		status, err := admin.GetStatus(t.Context(), s.Pool)
		if err != nil {
			t.Fatal(err)
		}
		lag := int64(0)
		for _, sub := range status.Subscriptions {
			if sub.Name != "search" {
				lag += sub.Lag.Events
			}
		}
		return lag == 0 && s.states(t, "mails")["dead"] > 20 && s.states(t, "warehouse")["dead"] == 2
	})
	if err := admin.Pause(t.Context(), s.Pool, "search"); err != nil {
		t.Fatal(err)
	}
	s.imagine(t)
}

// imagine makes up the last two minutes, which would take two minutes.
func (s *site) imagine(t *testing.T) {
	t.Helper()
	s.handler.every = refresh
	now, err := admin.GetMark(t.Context(), s.Pool)
	if err != nil {
		t.Fatal(err)
	}
	var marks []admin.Mark
	wave := func(i, lag int) float64 {
		x := float64(i - lag)
		return 22 + 9*math.Sin(x/7) + 5*math.Sin(x/2.3+1) + float64((i*37)%9)
	}
	last := float64(now.Last)
	behind := map[string]float64{}
	for i := range 60 {
		m := admin.Mark{At: now.At.Add(-time.Duration(i) * refresh), Last: int64(last), Handled: map[string]int64{}}
		for n, name := range []string{"billing", "mails", "search", "warehouse"} {
			if name == "search" {
				m.Handled[name] = now.Handled[name]
				continue
			}
			m.Handled[name] = now.Handled[name] - int64(behind[name])
			behind[name] += 2 * wave(i, n)
		}
		last -= 2 * wave(i, 0)
		marks = append([]admin.Mark{m}, marks...)
	}
	s.handler.rates.marks, s.handler.rates.taken = marks, time.Now().Add(time.Minute)
}
