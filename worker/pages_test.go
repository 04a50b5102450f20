package worker_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestBacklogIsReadOnce counts round trips over the connection that events are read over, while a backlog is worked off: ten subscriptions
// need about as many as one.
func TestBacklogIsReadOnce(t *testing.T) {
	t.Parallel()
	const backlog = 6000
	tripsOf := func(n int) int64 {
		db := pgtest.New(t)
		_, err := db.Pool.Exec(t.Context(), `
			insert into outbox.events (topic, key, payload)
			select 'test.happened', 'k' || i % 500, json_build_object('n', i) from generate_series(1, $1::integer) i`, backlog)
		if err != nil {
			t.Fatal(err)
		}
		var trips, handled atomic.Int64
		w, err := worker.New(counted(t, db, &trips, "signalbox worker: read"), worker.Config{Logger: testLogger(t)})
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			s := worker.Subscription{Name: fmt.Sprint("s", i), Topics: everything, WindowSize: 100}
			if err := worker.Handle(w, s, func(context.Context, *worker.Event[payload]) error {
				handled.Add(1)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		stop := runUntilStopped(t, w)
		eventually(t, 60*time.Second, "all is settled", func() bool { return handled.Load() >= int64(n*backlog) && settledAll(t, db.Pool) })
		stop()
		if got := handled.Load(); got != int64(n*backlog) {
			t.Errorf("%d events were handled, want %d", got, n*backlog)
		}
		return trips.Load()
	}
	one, ten := tripsOf(1), tripsOf(10)
	t.Logf("round trips to read the backlog: %d for one subscription, %d for ten", one, ten)
	if ten > 3*one {
		t.Errorf("there were %d round trips to read the backlog for ten subscriptions, and %d for one", ten, one)
	}
}
