package worker_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestBusyKeyInTx has a key with a second of work in a window that is handled in one transaction. The window ends long before that: it
// commits what others have done, whether they came before or after, and the key goes on beside the windows to come, in its order.
func TestBusyKeyInTx(t *testing.T) {
	t.Parallel()
	const busy, takes = 200, 5 * time.Millisecond
	db := pgtest.New(t)
	publish(t, db.Pool, "other", 0, 1)
	publish(t, db.Pool, "busy", 0, busy)
	publish(t, db.Pool, "other", 1, 2)
	var (
		mu      sync.Mutex
		handled int // of the busy key
		before  int // those before the last of the other
		others  int
	)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	err = worker.HandleTx(w, worker.Subscription{Name: "s", Topics: everything}, func(_ context.Context, _ pgx.Tx, e *worker.Event[payload]) error {
		if e.Key == "busy" {
			time.Sleep(takes) // what the handler does
		}
		mu.Lock()
		defer mu.Unlock()
		if e.Key != "busy" {
			others++
			before = handled
			return nil
		}
		if e.Payload.N != handled {
			t.Errorf("event %d of the key comes when %d were handled", e.Payload.N, handled)
		}
		handled++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	eventually(t, 60*time.Second, "all are handled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return handled == busy && others == 2
	})
	mu.Lock()
	defer mu.Unlock()
	if before > busy/4 { // a tenth of a second has 20 of them at most, and the first window would have 99
		t.Errorf("%d of %d events of the key came before that of another", before, busy)
	}
}
