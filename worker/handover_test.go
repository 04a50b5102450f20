package worker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestParkedFailsAfterHandover has events without a key fail in the worker that parked them, when their lanes are another worker's. That
// one tries them again when they are due, although nobody tells it that they have failed.
func TestParkedFailsAfterHandover(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l, release := newLedger(), make(chan struct{})
	s := worker.Subscription{
		Name: "s", Topics: everything, ParkAfter: 20 * time.Millisecond, BreakerAfter: worker.Unlimited,
		Retry: worker.Retry{Delay: func(int) time.Duration { return 10 * time.Millisecond }},
	}
	handler := func(_ context.Context, e *worker.Event[payload]) error {
		if e.Attempt == 1 {
			<-release
			return errors.New("the first time")
		}
		l.add(e)
		return nil
	}
	start(t, db.Pool, worker.Config{Name: "first"}, s, handler)
	publish(t, db.Pool, "", 0, engine.Lanes) // one in each lane
	eventually(t, 20*time.Second, "all are parked", func() bool {
		status, err := admin.GetStatus(t.Context(), db.Pool)
		return err == nil && len(status.Subscriptions) == 1 && status.Subscriptions[0].Deliveries["running"] == engine.Lanes
	})
	start(t, db.Pool, worker.Config{Name: "second"}, s, handler)
	eventually(t, 20*time.Second, "half of the lanes are the second's", func() bool {
		lanes, _ := owners(t, db.Pool)
		return lanes["second"] == engine.Lanes/2
	})
	// The second has looked at its lanes' deliveries by now, and found that they run elsewhere.
	publish(t, db.Pool, "", engine.Lanes, engine.Lanes+1)
	close(release)
	l.waitFor(t, engine.Lanes+1) // in less time than the backlog is left alone, which is a minute
}
