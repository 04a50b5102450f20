package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestMaxUnfinished has events without a key fail until as many wait as may: reading stops, the log and the status say so, and all is handled in
// the end.
func TestMaxUnfinished(t *testing.T) {
	t.Parallel()
	const most, all = 2 * engine.Lanes, 20 * engine.Lanes
	db := pgtest.New(t)
	var (
		log     syncBuffer
		works   atomic.Bool
		handled atomic.Int64
	)
	w, err := worker.New(db.Pool, worker.Config{WindowSize: engine.Lanes, PollInterval: 50 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	retry := worker.Retry{Delay: func(int) time.Duration { return time.Second }}
	s := worker.Subscription{Name: "s", Topics: everything, BreakerAfter: worker.Unlimited, MaxUnfinished: most, Retry: retry}
	err = worker.Handle(w, s, func(context.Context, *worker.Event[payload]) error {
		if !works.Load() {
			return errors.New("not yet")
		}
		handled.Add(1)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	publishNumbered(t, db, all, func(int) string { return "" })
	runUntilStopped(t, w)
	full := fmt.Sprint("lanes=", engine.Lanes)
	eventually(t, 30*time.Second, "all lanes are full", func() bool {
		return strings.Contains(log.String(), "lanes are not read further") && strings.Contains(log.String(), full)
	})
	if n := len(rows(t, db)); n > all/2 {
		t.Errorf("%d of %d wait as deliveries", n, all)
	}
	noted := func() int64 {
		status, err := admin.GetStatus(t.Context(), db.Pool)
		if err != nil {
			t.Fatal(err)
		}
		s := status.Subscriptions[0]
		if said := slices.ContainsFunc(status.Concerns, func(c admin.Concern) bool { return c.Kind == admin.ConcernFull && c.Events == s.FullLanes }); said != (s.FullLanes > 0) {
			t.Errorf("%d lanes are full, and the concerns are %+v", s.FullLanes, status.Concerns)
		}
		return s.FullLanes
	}
	eventually(t, 30*time.Second, "the status says that all lanes are full", func() bool { return noted() == engine.Lanes })
	works.Store(true)
	eventually(t, 60*time.Second, "all are handled", func() bool { return handled.Load() >= all && settledAll(t, db.Pool) })
	eventually(t, 30*time.Second, "no lane is full", func() bool { return noted() == 0 })
}
