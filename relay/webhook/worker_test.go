package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/relay/webhook"
	"github.com/signalbox-go/signalbox/worker"
)

// TestWorker has a worker understand the answers: an endpoint that is down uses up no attempts beyond those that showed it, makes no dead
// letters, and has everything once it is up; one that is gone has dead letters only.
func TestWorker(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	var down atomic.Bool
	down.Store(true)
	var arrived, refused atomic.Int64
	hooks := plainReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/gone":
			w.WriteHeader(http.StatusGone)
		case down.Load():
			refused.Add(1)
			w.WriteHeader(http.StatusInternalServerError)
		default:
			arrived.Add(1)
		}
	})
	s := open(t, byName(map[string]webhook.Endpoint{"a": {URL: hooks + "/a", Unsigned: true}, "gone": {URL: hooks + "/gone", Unsigned: true}}))
	const each = 30
	for i := range 2 * each {
		name := []string{"a", "gone"}[i%2]
		if _, err := outbox.Publish(ctx, db.Pool, outbox.Event{Topic: "hooks." + name, Key: fmt.Sprint(i), Payload: json.RawMessage("1")}); err != nil {
			t.Fatal(err)
		}
	}
	w, err := worker.New(db.Pool, worker.Config{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	sub := worker.Subscription{Name: "hooks", Topics: []string{"hooks.*"}, BreakerAfter: worker.Unlimited}
	if err := worker.Handle(w, sub, func(ctx context.Context, e *worker.Event[json.RawMessage]) error {
		m := message(e.Topic[len("hooks."):], fmt.Sprint(e.ID))
		m.Key = e.Key
		answer := make(chan error, 1)
		s.Send(ctx, m, func(err error) { answer <- err })
		return <-answer
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	states := func() (dead, attempts int) {
		if err := db.Pool.QueryRow(ctx, `
			select count(*) filter (where d.state = 'dead'), coalesce(sum(d.attempt) filter (where d.state <> 'dead'), 0)
			from outbox.deliveries d`).Scan(&dead, &attempts); err != nil {
			t.Fatal(err)
		}
		return dead, attempts
	}
	eventually(t, "dead letters of the one that is gone, and several probes of the other", func() bool {
		dead, _ := states()
		return dead == each && refused.Load() >= 8
	})
	if dead, attempts := states(); dead != each || attempts > 2*8 { // of those that were in flight when it opened
		t.Errorf("%d dead letters, %d attempts", dead, attempts)
	}
	down.Store(false)
	eventually(t, "everything arrives", func() bool {
		status, err := admin.GetStatus(ctx, db.Pool)
		if err != nil {
			t.Fatal(err)
		}
		return arrived.Load() >= each && status.Subscriptions[0].Deliveries["retrying"] == 0
	})
	if dead, _ := states(); dead != each || arrived.Load() != each {
		t.Errorf("%d dead letters, %d arrived", dead, arrived.Load())
	}
}
