package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// A failureCounter counts the lines about attempts that failed, and the attempts that they tell of.
type failureCounter struct{ lines, told *atomic.Int64 }

func (c failureCounter) Enabled(context.Context, slog.Level) bool { return true }
func (c failureCounter) WithGroup(string) slog.Handler            { return c }

func (c failureCounter) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "failures_not_logged" {
			c.told.Add(a.Value.Int64())
		}
	}
	return c
}

func (c failureCounter) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "event failed") {
		c.lines.Add(1)
		c.told.Add(1)
	}
	return nil
}

// TestManyFailures has hundreds of events fail once, and then one again and again: each of the few has a line, of the many few have,
// and the next line says how many have not.
func TestManyFailures(t *testing.T) {
	t.Parallel()
	const all = 500
	db := pgtest.New(t)
	publishNumbered(t, db, all, func(int) string { return "" })
	count := failureCounter{&atomic.Int64{}, &atomic.Int64{}}
	w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(count)})
	if err != nil {
		t.Fatal(err)
	}
	var failed atomic.Int64
	s := worker.Subscription{Name: "s", Topics: everything, BreakerAfter: worker.Unlimited}
	err = worker.Handle(w, s, func(_ context.Context, e *worker.Event[payload]) error {
		if e.Attempt > 1 && e.Payload.N > 0 {
			return nil
		}
		failed.Add(1)
		return worker.RetryAfter(100*time.Millisecond, errors.New("not yet"))
	})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	runUntilStopped(t, w)
	eventually(t, time.Minute, "the log tells of all of the first", func() bool { return count.told.Load() >= all })
	if lines, most := count.lines.Load(), 11+int64(time.Since(start)/time.Second); lines < 10 || lines > most {
		t.Errorf("%d lines of %d attempts that failed, want 10 to %d", lines, failed.Load(), most)
	}
}
