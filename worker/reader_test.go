package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestFallsBehindAlone blocks the handler of one of two subscriptions of a worker, while so much is published that the reader leaves it out:
// the other one handles all of it meanwhile, and the first one afterwards, each event once.
func TestFallsBehindAlone(t *testing.T) {
	t.Parallel()
	const burst, bursts = 40, 20
	db := pgtest.New(t)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	slow, fast := newLedger(), newLedger()
	blocked, goOn := make(chan struct{}, bursts*burst), make(chan struct{})
	err = worker.HandleBatch(w, worker.Subscription{Name: "slow", Topics: everything, WindowSize: 100}, func(_ context.Context, events []*worker.Event[payload]) error {
		if events[0].Payload.N > 0 {
			blocked <- struct{}{}
			<-goOn
		}
		for _, e := range events {
			slow.add(e)
		}
		return nil
	})
	if err == nil {
		err = worker.Handle(w, worker.Subscription{Name: "fast", Topics: everything}, record(fast))
	}
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	publish(t, db.Pool, "k", 0, 1)
	slow.waitFor(t, 1)
	fast.waitFor(t, 1)
	publish(t, db.Pool, "k", 1, 2)
	<-blocked
	for b := range bursts {
		publish(t, db.Pool, "k", 2+b*burst, 2+(b+1)*burst)
		fast.waitFor(t, 2+(b+1)*burst)
	}
	close(goOn)
	for name, l := range map[string]*ledger{"slow": slow, "fast": fast} {
		events := l.waitFor(t, 2+bursts*burst)
		for n, e := range events {
			if e.Payload.N != n {
				t.Fatalf("%s: event %d is %d", name, n, e.Payload.N)
			}
		}
	}
	eventually(t, 20*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	if n, m := len(slow.all()), len(fast.all()); n != 2+bursts*burst || m != n {
		t.Errorf("%d and %d events were handled, want %d", n, m, 2+bursts*burst)
	}
}
