package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestMemory gives a hundred subscriptions of one worker a backlog of events of 1 MB, while half of their handlers are slow: those that are
// not slow get through it, and the worker does not read more ahead than it may. It does not run beside other tests, which need memory,
// too.
func TestMemory(t *testing.T) {
	const subscriptions, backlog = 100, 6
	db := pgtest.New(t)
	_, err := db.Pool.Exec(t.Context(), `
		insert into outbox.events (topic, key, payload)
		select 'large', 'k' || i, to_json(repeat('x', 1000000)) from generate_series(1, $1::integer) i`, backlog)
	if err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	var fast, slow atomic.Int64
	goOn := make(chan struct{})
	for i := range subscriptions {
		s := worker.Subscription{Name: fmt.Sprint("s", i), Topics: everything}
		if err := worker.HandleBatch(w, s, func(ctx context.Context, events []*worker.Event[json.RawMessage]) error {
			if i%2 == 0 {
				fast.Add(int64(len(events)))
				return nil
			}
			select {
			case <-goOn:
			case <-ctx.Done():
				return ctx.Err()
			}
			slow.Add(int64(len(events)))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	var peak uint64
	watch := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.Sys-m.HeapReleased)
	}
	stop := runUntilStopped(t, w)
	eventually(t, 100*time.Second, "those that are not slow have handled all", func() bool { watch(); return fast.Load() >= subscriptions/2*backlog })
	close(goOn)
	eventually(t, 100*time.Second, "all have", func() bool { watch(); return slow.Load() >= subscriptions/2*backlog })
	stop()
	if t.Logf("the process took %d MiB of memory", peak>>20); peak > 256<<20 {
		t.Error("that is too much: what is read ahead has a limit")
	}
}
