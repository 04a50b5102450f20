package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestBehindComesTogether has many events wait behind one that is tried again. When it has succeeded, they come together, as those of
// a window do: one by one, they would be slower than what is published meanwhile, and the subscription might never catch up.
func TestBehindComesTogether(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"batch", "batch tx"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			var (
				mu    sync.Mutex
				calls [][]int
				came  = map[string]bool{}
				all   bool // whether all are published: until then, the first ones fail
			)
			handle := func(events []*worker.Event[payload]) error {
				mu.Lock()
				defer mu.Unlock()
				errs := make([]error, len(events))
				var ns []int
				for i, e := range events {
					ns = append(ns, e.Payload.N)
					if e.Payload.N == 0 && (e.Attempt < 3 || !all) {
						errs[i] = errors.New("not yet")
					}
				}
				calls = append(calls, ns)
				if errors.Join(errs...) == nil {
					for _, e := range events {
						came[fmt.Sprint(e.Key, e.Payload.N)] = true
					}
				}
				return worker.PerEvent(errs)
			}
			w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
			if err != nil {
				t.Fatal(err)
			}
			s := worker.Subscription{Name: "s", Topics: everything, BreakerAfter: worker.Unlimited, Retry: worker.Retry{Delay: func(int) time.Duration { return 500 * time.Millisecond }}}
			if form == "batch" {
				err = worker.HandleBatch(w, s, func(_ context.Context, events []*worker.Event[payload]) error { return handle(events) })
			} else {
				err = worker.HandleBatchTx(w, s, func(_ context.Context, _ pgx.Tx, events []*worker.Event[payload]) error { return handle(events) })
			}
			if err != nil {
				t.Fatal(err)
			}
			const keys, each = 10, 20
			for k := range keys {
				publish(t, db.Pool, fmt.Sprint("key-", k), 0, 1)
			}
			runUntilStopped(t, w)
			eventually(t, 20*time.Second, "all have failed", func() bool { return len(rows(t, db)) == keys })
			for k := range keys {
				publish(t, db.Pool, fmt.Sprint("key-", k), 1, each)
			}
			mu.Lock()
			all = true
			mu.Unlock()
			eventually(t, 20*time.Second, "all are handled", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(came) == keys*each
			})
			mu.Lock()
			defer mu.Unlock()
			if alone := slices.IndexFunc(calls, func(ns []int) bool { return len(ns) == 1 && ns[0] > 1 }); alone >= 0 {
				t.Errorf("of %v, call %d has an event that only waited alone", calls, alone)
			}
		})
	}
}
