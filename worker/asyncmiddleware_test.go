package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// ends is middleware that counts how often it is told of the end of each attempt.
type ends struct {
	mu    sync.Mutex
	calls []int
}

func (e *ends) middleware(ctx context.Context, _ worker.Call) (context.Context, func(error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := len(e.calls)
	e.calls = append(e.calls, 0)
	return ctx, func(error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.calls[i]++
	}
}

// check fails unless each attempt has ended, once.
func (e *ends) check(t *testing.T) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, n := range e.calls {
		if n != 1 {
			t.Errorf("the end of attempt %d of %d was told %d times", i+1, len(e.calls), n)
		}
	}
	if len(e.calls) == 0 {
		t.Error("no attempt has begun")
	}
}

type aroundKey struct{}

// TestAsyncMiddleware has two of them around attempts that end in every way: they begin in order, are told what became of each attempt in the
// reverse order, and the handler has their context.
func TestAsyncMiddleware(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	errRefused := errors.New("refused")
	var mu sync.Mutex
	told := map[string]string{}
	note := func(name string) worker.AsyncMiddleware {
		return func(ctx context.Context, c worker.Call) (context.Context, func(error)) {
			topic := c.Events[0].Topic
			if c.Subscription != "s" || c.MaxAttempts != 1 || c.Attempt != 1 || len(c.Events) != 1 || c.Outgoing != nil {
				t.Errorf("the call is %+v", c)
			}
			outer, _ := ctx.Value(aroundKey{}).(string)
			if topic == "middleware" && name == "inner" {
				panic("the middleware is broken")
			}
			return context.WithValue(ctx, aroundKey{}, outer+name+" "), func(err error) {
				mu.Lock()
				defer mu.Unlock()
				told[topic] += fmt.Sprintf("%s: %v; ", name, err)
				var kind interface{ ErrorType() string }
				if errors.As(err, &kind) {
					told[topic] += kind.ErrorType() + "; "
				}
			}
		}
	}
	nothing := func(ctx context.Context, _ worker.Call) (context.Context, func(error)) { return ctx, nil }
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := worker.Subscription{
		Name: "s", Topics: everything, Timeout: 2 * time.Second, BreakerAfter: worker.Unlimited, Retry: worker.Retry{MaxAttempts: 1}, OnDecodeError: worker.DeadLetterDecodeErrors,
		AsyncMiddleware: []worker.AsyncMiddleware{note("outer"), nothing, note("inner")},
	}
	err = worker.HandleAsync(w, s, worker.Strict, func(ctx context.Context, e *worker.Event[payload], done func(error)) {
		if got := ctx.Value(aroundKey{}); got != "outer inner " {
			t.Errorf("the context has %v", got)
		}
		switch e.Topic {
		case "ok":
			done(nil)
		case "later":
			time.AfterFunc(20*time.Millisecond, func() { done(nil) })
		case "refused":
			done(fmt.Errorf("send: %w", errRefused))
			done(nil)
		case "dead":
			done(worker.DeadLetter(errRefused))
		case "late":
			context.AfterFunc(ctx, func() { done(errRefused) })
		case "panics":
			panic("the client is broken")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"ok":         "inner: <nil>; outer: <nil>; ",
		"later":      "inner: <nil>; outer: <nil>; ",
		"refused":    "inner: send: refused; outer: send: refused; ",
		"dead":       "inner: dead letter: refused; dead_letter; outer: dead letter: refused; dead_letter; ",
		"panics":     "inner: handler panicked: the client is broken; outer: handler panicked: the client is broken; ",
		"undecoded":  "",
		"middleware": "outer: handler panicked: the middleware is broken; ",
		"unanswered": "",
		"late":       "",
	}
	for _, name := range []string{"inner", "outer"} {
		want["undecoded"] += name + ": dead letter: decode payload as worker_test.payload: json: cannot unmarshal string into Go value of type worker_test.payload; dead_letter; "
		want["unanswered"] += name + ": attempt took longer than the subscription's timeout; timeout; "
		want["late"] += name + ": attempt took longer than the subscription's timeout: refused; timeout; "
	}
	for topic := range want {
		body := `{"n": 1}`
		if topic == "undecoded" {
			body = `"text"`
		}
		if _, err := db.Pool.Exec(t.Context(), `insert into outbox.events (topic, payload) values ($1, $2)`, topic, body); err != nil {
			t.Fatal(err)
		}
	}
	runUntilStopped(t, w)
	eventually(t, 30*time.Second, "all have ended", func() bool {
		var dead int
		if err := db.Pool.QueryRow(t.Context(), `select count(*) from outbox.deliveries where state = 'dead'`).Scan(&dead); err != nil {
			t.Fatal(err)
		}
		return settledAll(t, db.Pool) && dead == len(want)-2
	})
	mu.Lock()
	defer mu.Unlock()
	for topic := range want {
		if got := told[topic]; got != want[topic] {
			t.Errorf("%s: told is %q, want %q", topic, got, want[topic])
		}
	}
}

// TestAsyncMiddlewareFails has what is called at the end of an attempt panic: the events are delivered all the same, the other middleware is told, and the log
// says it.
func TestAsyncMiddlewareFails(t *testing.T) {
	t.Parallel()
	const all = 10
	db := pgtest.New(t)
	publish(t, db.Pool, "key", 0, all)
	var log syncBuffer
	w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	var told ends
	s := worker.Subscription{Name: "s", Topics: everything, AsyncMiddleware: []worker.AsyncMiddleware{
		told.middleware, func(ctx context.Context, _ worker.Call) (context.Context, func(error)) {
			return ctx, func(error) { panic("the tracer is broken") }
		},
	}}
	err = worker.HandleAsync(w, s, worker.Strict, func(_ context.Context, _ *worker.Event[payload], done func(error)) { go done(nil) })
	if err != nil {
		t.Fatal(err)
	}
	stop := runUntilStopped(t, w)
	eventually(t, 30*time.Second, "all are delivered", func() bool { return settledAll(t, db.Pool) })
	stop()
	told.check(t)
	if n := len(told.calls); n != all {
		t.Errorf("%d attempts were told, want %d", n, all)
	}
	if text := log.String(); !strings.Contains(text, "AsyncMiddleware") || !strings.Contains(text, "the tracer is broken") {
		t.Errorf("logged is %s", text)
	}
}

// TestAsyncMiddlewareIsHeldUp has middleware block for longer than an attempt may last: it is told that the attempt has failed, although it was over
// before the middleware knew of it, and the next attempt succeeds.
func TestAsyncMiddlewareIsHeldUp(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publish(t, db.Pool, "", 0, 1)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var told []error
	again := make(chan struct{})
	s := worker.Subscription{
		Name: "s", Topics: everything, Timeout: 100 * time.Millisecond, Retry: worker.Retry{Delay: func(int) time.Duration { return 0 }},
		AsyncMiddleware: []worker.AsyncMiddleware{func(ctx context.Context, c worker.Call) (context.Context, func(error)) {
			if c.Attempt == 1 {
				<-again
			} else {
				close(again)
			}
			return ctx, func(err error) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, err)
			}
		}},
	}
	if err := worker.HandleAsync(w, s, worker.Strict, func(_ context.Context, _ *worker.Event[payload], done func(error)) { done(nil) }); err != nil {
		t.Fatal(err)
	}
	stop := runUntilStopped(t, w)
	eventually(t, 30*time.Second, "it is delivered, and both ends are told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(told) == 2 && settledAll(t, db.Pool) && len(rows(t, db)) == 0
	})
	stop()
	failed := slices.DeleteFunc(told, func(err error) bool { return err == nil })
	if len(failed) != 1 || !strings.Contains(failed[0].Error(), "timeout") {
		t.Errorf("told is %v", told)
	}
}
