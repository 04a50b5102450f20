package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// TestUID publishes an event before the worker joins, which reads it by lanes, and one when it stands at the end of the log, and has their
// first attempts fail: handlers, those of a window and those of a delivery, get the UIDs that Publish returned.
func TestUID(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			stored := map[int64]string{}
			publish := func() {
				t.Helper()
				events, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: "a", Key: "k", Payload: json.RawMessage(`{"n": 1}`)})
				if err != nil {
					t.Fatal(err)
				}
				stored[events[0].ID] = events[0].UID
			}
			publish()
			var (
				mu   sync.Mutex
				seen []outbox.Event
			)
			startForm(t, db, f, worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{Delay: func(int) time.Duration { return 0 }}},
				func(_ context.Context, _ execer, e *worker.Event[payload]) error {
					mu.Lock()
					defer mu.Unlock()
					if seen = append(seen, e.Event); e.Attempt < 3 {
						return errors.New("again")
					}
					return nil
				})
			for n := range 2 {
				if n > 0 {
					publish()
				}
				eventually(t, 30*time.Second, "it is handled", func() bool {
					mu.Lock()
					defer mu.Unlock()
					return len(seen) >= 3*(n+1) && settledAll(t, db.Pool)
				})
			}
			mu.Lock()
			defer mu.Unlock()
			for i, e := range seen {
				if e.UID == "" || e.UID != stored[e.ID] {
					t.Errorf("call %d: the UID of event %d is %q, want %q", i+1, e.ID, e.UID, stored[e.ID])
				}
			}
		})
	}
}
