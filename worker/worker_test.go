package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

type payload struct {
	N int `json:"n"`
}

// ledger keeps what a handler was called for.
type ledger struct {
	mu     sync.Mutex
	events []worker.Event[payload]
	grew   chan struct{}
}

func newLedger() *ledger { return &ledger{grew: make(chan struct{}, 1)} }

func (l *ledger) add(e *worker.Event[payload]) {
	l.mu.Lock()
	l.events = append(l.events, *e)
	l.mu.Unlock()
	select {
	case l.grew <- struct{}{}:
	default:
	}
}

func (l *ledger) all() []worker.Event[payload] {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]worker.Event[payload](nil), l.events...)
}

// waitFor waits until the ledger has n events.
func (l *ledger) waitFor(t *testing.T, n int) []worker.Event[payload] {
	t.Helper()
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		handled := len(l.events)
		l.mu.Unlock()
		if handled >= n {
			return l.all()
		}
		select {
		case <-l.grew:
		case <-deadline:
			t.Fatalf("%d of %d events were handled", handled, n)
		}
	}
}

func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// start runs a worker with one handler until the test ends, or until the returned function is called.
func start(t *testing.T, pool *pgxpool.Pool, cfg worker.Config, s worker.Subscription, handler func(context.Context, *worker.Event[payload]) error) (stop func()) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = testLogger(t)
	}
	w, err := worker.New(pool, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Handle(w, s, handler); err != nil {
		t.Fatal(err)
	}
	return runUntilStopped(t, w)
}

// runUntilStopped runs a worker until the test ends, or until the returned function is called.
func runUntilStopped(t *testing.T, w *worker.Worker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), contextKey{}, "of Run"))
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func publish(t *testing.T, db outbox.DB, key string, from, to int) {
	t.Helper()
	var events []outbox.Event
	for n := from; n < to; n++ {
		e, err := outbox.NewEvent("test.happened", key, payload{n})
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	if _, err := outbox.Publish(t.Context(), db, events...); err != nil {
		t.Fatal(err)
	}
}

func TestDelivers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publish(t, db.Pool, "", 0, 10) // before any worker ever ran
	l := newLedger()
	s := worker.Subscription{Name: "all", Topics: []string{">"}}
	start(t, db.Pool, worker.Config{}, s, func(_ context.Context, e *worker.Event[payload]) error {
		l.add(e)
		return nil
	})
	l.waitFor(t, 10)
	for n := range 100 {
		publish(t, db.Pool, "k", n, n+1)
	}
	events := l.waitFor(t, 110)
	if len(events) != 110 {
		t.Fatalf("%d events were handled, want 110", len(events))
	}
	for i, e := range events[10:] {
		if e.Payload.N != i {
			t.Fatalf("event %d of the key is %d", i, e.Payload.N)
		}
	}
}

func TestFailureIsRetried(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l := newLedger()
	s := worker.Subscription{
		Name: "all", Topics: []string{">"}, Timeout: 50 * time.Millisecond, BreakerAfter: worker.Unlimited,
		Retry: worker.Retry{Delay: func(int) time.Duration { return 20 * time.Millisecond }},
	}
	start(t, db.Pool, worker.Config{}, s, func(ctx context.Context, e *worker.Event[payload]) error {
		if e.Attempt <= 2 {
			switch e.Payload.N % 4 {
			case 1:
				return errors.New("not now")
			case 2:
				panic("oh no")
			case 3:
				<-ctx.Done()
				return ctx.Err()
			}
		}
		l.add(e)
		return nil
	})
	const keys, each = 4, 10
	for k := range keys {
		publish(t, db.Pool, fmt.Sprint("key-", k), 0, each)
	}
	publish(t, db.Pool, "", 0, each)
	events := l.waitFor(t, (keys+1)*each)
	next := map[string]int{}
	for _, e := range events {
		if e.Key != "" {
			if e.Payload.N != next[e.Key] {
				t.Errorf("%s: event %d came when %d was next", e.Key, e.Payload.N, next[e.Key])
			}
			next[e.Key]++
		}
		want := 1
		if e.Payload.N%4 != 0 {
			want = 3
		}
		if e.Attempt != want {
			t.Errorf("event %d of %q succeeded at attempt %d, want %d", e.Payload.N, e.Key, e.Attempt, want)
		}
	}
}

// A syncBuffer is a buffer that one goroutine may read while others write.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
