package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/ops"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// TestReadyInOutage has everything fail, until the breaker is open: the worker stays ready, else its platform would restart it for the
// fault of something else.
func TestReadyInOutage(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for n := range 50 {
		if _, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: "a", Key: fmt.Sprint(n), Payload: json.RawMessage(`1`)}); err != nil {
			t.Fatal(err)
		}
	}
	opened := make(chan worker.BreakerState, 1)
	w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler), Hooks: []worker.Hooks{{
		BreakerChanged: func(_ context.Context, b worker.BreakerState) { opened <- b },
	}}})
	if err != nil {
		t.Fatal(err)
	}
	err = worker.Handle(w, worker.Subscription{Name: "s", Topics: []string{">"}}, func(context.Context, *worker.Event[int]) error { return errors.New("no") })
	if err != nil {
		t.Fatal(err)
	}
	ready := func() int {
		answer := httptest.NewRecorder()
		ops.NewHealth(w.Ready).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		return answer.Code
	}
	if code := ready(); code != http.StatusServiceUnavailable {
		t.Errorf("before it runs, /readyz answers %d", code)
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
	select {
	case b := <-opened:
		if !b.Open {
			t.Errorf("told %+v", b)
		}
	case <-time.After(time.Minute):
		t.Fatal("the breaker stays closed")
	}
	if code := ready(); code != http.StatusOK {
		t.Errorf("while the breaker is open, /readyz answers %d", code)
	}
}
