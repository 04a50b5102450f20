package worker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestBacklogIsShared has workers join and leave while another one works on a backlog, with a window read ahead. Lanes change hands,
// and what was read ahead comes again.
func TestBacklogIsShared(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const keys, each = 200, 30
	s := worker.Subscription{Name: "s", Topics: everything}
	l := newLedger()
	slowly := func(_ context.Context, e *worker.Event[payload]) error {
		time.Sleep(5 * time.Millisecond) // so that there is something to share for a while
		l.add(e)
		return nil
	}
	for k := range keys {
		publish(t, db.Pool, fmt.Sprint("key-", k), 0, each)
	}
	first := start(t, db.Pool, worker.Config{Concurrency: 20}, s, slowly)
	l.waitFor(t, 500)
	start(t, db.Pool, worker.Config{Concurrency: 20}, s, slowly)
	l.waitFor(t, 2000)
	first()
	eventually(t, 60*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	next := map[string]int{}
	for _, e := range l.all() {
		if e.Payload.N != next[e.Key] {
			t.Fatalf("%s: event %d came when %d was due", e.Key, e.Payload.N, next[e.Key])
		}
		next[e.Key]++
	}
	for k := range keys {
		if n := next[fmt.Sprint("key-", k)]; n != each {
			t.Errorf("key-%d: %d of %d events were handled", k, n, each)
		}
	}
}
