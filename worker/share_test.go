package worker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestLongLineHasAShare has one key with many slow events among fast ones of others. Once its line waits, few of its events are in one
// transaction: new events of other keys wait for that one.
func TestLongLineHasAShare(t *testing.T) {
	t.Parallel()
	const fast, slow, work = 500, 100, 20 * time.Millisecond
	db := pgtest.New(t)
	publishNumbered(t, db, fast, func(i int) string { return fmt.Sprint("key-", i) })
	publishNumbered(t, db, slow, func(int) string { return "slow" })
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	together, handled := map[string]int{}, 0
	err = worker.HandleTx(w, worker.Subscription{Name: "s", Topics: everything}, func(ctx context.Context, tx pgx.Tx, e *worker.Event[payload]) error {
		if e.Key != "slow" {
			return nil
		}
		if e.Payload.N == 0 && e.Attempt == 1 {
			return worker.RetryAfter(100*time.Millisecond, errors.New("so that those behind it wait"))
		}
		time.Sleep(work)
		var xid string
		var waited bool
		err := tx.QueryRow(ctx, `select pg_current_xact_id()::text, exists (select from outbox.deliveries d where d.event_id = $1)`, e.ID).Scan(&xid, &waited)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		handled++
		if waited {
			together[xid]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	eventually(t, 3*time.Minute, "all are handled", func() bool {
		publishNumbered(t, db, 20, func(i int) string { return fmt.Sprint("key-", i) })
		mu.Lock()
		defer mu.Unlock()
		return handled >= slow
	})
	mu.Lock()
	defer mu.Unlock()
	if len(together) == 0 {
		t.Error("none has waited")
	}
	for xid, n := range together {
		if n > 4 { // of 20 ms each, in 50 ms
			t.Errorf("transaction %s has %d of them", xid, n)
		}
	}
}
