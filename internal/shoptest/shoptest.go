// Package shoptest is the vocabulary of the dashboard's tests: an outbox with the events of a shop, and those who handle them.
package shoptest

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// A Shop is an outbox under test.
type Shop struct{ *pgtest.DB }

// Exec runs a statement.
func (s Shop) Exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := s.Pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Publish appends an event and returns its id.
func (s Shop) Publish(t *testing.T, topic, key, payload string) int64 {
	t.Helper()
	list, err := outbox.Publish(t.Context(), s.Pool, outbox.Event{Topic: topic, Key: key, Payload: json.RawMessage(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return list[0].ID
}

// Subscribe creates a subscription that begins at the beginning.
func (s Shop) Subscribe(t *testing.T, name string, topics ...string) {
	t.Helper()
	if _, err := engine.Subscribe(t.Context(), s.Pool, name, topics, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
}

// Bury makes dead letters of a subscription without any worker, from event ids from to to.
func (s Shop) Bury(t *testing.T, name string, from, to int, reason string) {
	t.Helper()
	s.Exec(t, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, attempt, due_at, errors)
		select s.id, n, n % 64, 'orders.placed', 'A-' || n, jsonb_build_object('n', n), '{}', now(), 'dead', 3, now(),
		       jsonb_build_array(jsonb_build_object('attempt', 3, 'at', now(), 'worker', 'w', 'error', $4::text))
		from outbox.subscriptions s, generate_series($2::bigint, $3::bigint) n
		where s.name = $1`, name, from, to, reason)
}

// States counts a subscription's deliveries by state.
func (s Shop) States(t *testing.T, name string) map[string]int {
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

// A Clerk is a worker whose handler fails while what it needs is away.
type Clerk struct {
	Away    atomic.Bool
	Handled atomic.Int64
}

var errRefused = errors.New("connect to mail.example: connection refused")

// Hire runs a worker of a subscription until the test ends.
func (s Shop) Hire(t *testing.T, name string, topics ...string) *Clerk {
	t.Helper()
	w, err := worker.New(s.Pool, worker.Config{Name: name + "-1", Logger: slog.New(slog.DiscardHandler), PollInterval: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	c := &Clerk{}
	sub := worker.Subscription{Name: name, Topics: topics, BreakerAfter: worker.Unlimited, Retry: worker.Retry{MaxAttempts: 2, InitialInterval: time.Millisecond}}
	if err := worker.Handle(w, sub, func(context.Context, *worker.Event[json.RawMessage]) error {
		if c.Away.Load() {
			return errRefused
		}
		c.Handled.Add(1)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	Run(t, w)
	return c
}

// Run runs a worker until the test ends.
func Run(t *testing.T, w *worker.Worker) {
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

// A Journal is a log that tests read.
type Journal struct {
	mu   sync.Mutex
	text []byte
}

// Write appends to it.
func (j *Journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text = append(j.text, p...)
	return len(p), nil
}

// String returns all of it.
func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return string(j.text)
}

// Eventually waits until something is so.
func Eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute, it is not so: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
