package worker_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestOutageIsAConcern has every attempt fail until the circuit breaker opens, and takes back the count of each: that nothing is counted
// does not mean that nothing fails.
func TestOutageIsAConcern(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	start(t, db.Pool, worker.Config{}, worker.Subscription{Name: "s", Topics: everything}, func(context.Context, *worker.Event[payload]) error {
		return errors.New("no route to host")
	})
	for i := range 200 {
		publish(t, db.Pool, "", i, i+1)
	}
	eventually(t, 30*time.Second, "what has failed counts no attempt", func() bool {
		failed, counted := 0, 0
		if err := db.Pool.QueryRow(ctx, `
			select count(*) filter (where d.errors <> '[]'), count(*) filter (where d.state = 'retrying' and d.attempt > 0)
			from outbox.deliveries d`).Scan(&failed, &counted); err != nil {
			t.Fatal(err)
		}
		status, err := admin.GetStatus(ctx, db.Pool)
		return failed >= 20 && counted == 0 && err == nil && status.Subscriptions[0].BreakerOpenedAt != nil // which is recorded a moment later
	})
	for name, read := range map[string]func() (*admin.Status, error){
		"GetStatus":     func() (*admin.Status, error) { return admin.GetStatus(ctx, db.Pool) },
		"GetStatusUpTo": func() (*admin.Status, error) { return admin.GetStatusUpTo(ctx, db.Pool, 1000) },
	} {
		if _, err := db.Pool.Exec(ctx, `update outbox.deliveries set created_at = now() - interval '2 min' where errors <> '[]'`); err != nil {
			t.Fatal(err)
		}
		status, err := read()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(status.Concerns, func(c admin.Concern) bool { return c.Kind == admin.ConcernBreaker })
		if failing := status.Subscriptions[0].FailingSince; i < 0 || failing == nil || status.At.Sub(*failing) < 2*time.Minute || status.Subscriptions[0].Deliveries["dead"] != 0 {
			t.Errorf("%s: %+v, %+v", name, status.Concerns, status.Subscriptions)
		}
	}
}
