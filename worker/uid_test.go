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

// TestUID publishes an event and has its first attempt fail: handlers, those of a window and those of a delivery, get the UID that Publish
// returned.
func TestUID(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			stored, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: "a", Key: "k", Payload: json.RawMessage(`{"n": 1}`)})
			if err != nil {
				t.Fatal(err)
			}
			var (
				mu   sync.Mutex
				seen []string
			)
			startForm(t, db, f, worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{Delay: func(int) time.Duration { return 0 }}},
				func(_ context.Context, _ execer, e *worker.Event[payload]) error {
					mu.Lock()
					defer mu.Unlock()
					if seen = append(seen, e.UID); e.Attempt < 3 {
						return errors.New("again")
					}
					return nil
				})
			eventually(t, 30*time.Second, "it is handled", func() bool { return settledAll(t, db.Pool) })
			mu.Lock()
			defer mu.Unlock()
			for i, uid := range seen {
				if uid != stored[0].UID {
					t.Errorf("call %d: the UID is %q, want %q", i+1, uid, stored[0].UID)
				}
			}
			if len(seen) < 3 || stored[0].UID == "" {
				t.Errorf("UIDs were %q of the event %+v", seen, stored[0])
			}
		})
	}
}
