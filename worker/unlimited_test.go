package worker_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestUnlimited has an event fail more often than the default allows, and take longer than ParkAfter's default: it is neither given up
// nor parked, and its attempts have no deadline.
func TestUnlimited(t *testing.T) {
	t.Parallel()
	const failures = 25
	db := pgtest.New(t)
	publish(t, db.Pool, "", 1, 2)
	var parked atomic.Int64
	cfg := worker.Config{
		ShutdownTimeout: worker.Unlimited, Retention: worker.Unlimited,
		Hooks: []worker.Hooks{{EventParked: func(context.Context, worker.ParkedEvent) { parked.Add(1) }}},
	}
	s := worker.Subscription{
		Name: "s", Topics: everything, Timeout: worker.Unlimited, ParkAfter: worker.Unlimited, Rate: worker.Unlimited,
		Retry: worker.Retry{MaxAttempts: worker.Unlimited, InitialInterval: time.Millisecond, Multiplier: 1, Jitter: worker.NoJitter},
		Middleware: []worker.Middleware{func(next worker.Handler) worker.Handler {
			return func(ctx context.Context, c worker.Call) error {
				if c.MaxAttempts != worker.Unlimited {
					t.Errorf("the call has %d attempts", c.MaxAttempts)
				}
				return next(ctx, c)
			}
		}},
	}
	l := newLedger()
	start(t, db.Pool, cfg, s, func(ctx context.Context, e *worker.Event[payload]) error {
		if deadline, ok := ctx.Deadline(); ok {
			t.Errorf("attempt %d has until %v", e.Attempt, deadline)
		}
		if e.Attempt <= failures {
			return errors.New("not yet")
		}
		time.Sleep(1200 * time.Millisecond)
		l.add(e)
		return nil
	})
	l.waitFor(t, 1)
	eventually(t, 20*time.Second, "it is delivered", func() bool { return len(rows(t, db)) == 0 })
	if parked.Load() != 0 {
		t.Errorf("it was parked %d times", parked.Load())
	}
}
