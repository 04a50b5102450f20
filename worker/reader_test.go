package worker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox/admin"
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
	eventually(t, 20*time.Second, "all is settled, and both stand at the end of the log", func() bool { return settledAll(t, db.Pool) })
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

// TestSettledWhenHandled blocks the handler of one subscription while others of the same worker handle events, and so record their progress
// again and again: that of the first one is not recorded with theirs.
func TestSettledWhenHandled(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"batch", "tx"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			const events, others = 30, 3
			db := pgtest.New(t)
			w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
			if err != nil {
				t.Fatal(err)
			}
			blocked, goOn := make(chan struct{}, events+1), make(chan struct{})
			release := sync.OnceFunc(func() { close(goOn) })
			defer release()
			handle := func(n int) error {
				if n > 0 {
					blocked <- struct{}{}
					<-goOn
				}
				return nil
			}
			s := worker.Subscription{Name: "slow", Topics: everything}
			if form == "tx" {
				err = worker.HandleTx(w, s, func(_ context.Context, _ pgx.Tx, e *worker.Event[payload]) error { return handle(e.Payload.N) })
			} else {
				err = worker.HandleBatch(w, s, func(_ context.Context, events []*worker.Event[payload]) error { return handle(events[0].Payload.N) })
			}
			if err != nil {
				t.Fatal(err)
			}
			var ledgers [others]*ledger
			for i := range ledgers {
				ledgers[i] = newLedger()
				if err := worker.Handle(w, worker.Subscription{Name: fmt.Sprint("fast", i), Topics: everything}, record(ledgers[i])); err != nil {
					t.Fatal(err)
				}
			}
			runUntilStopped(t, w)
			publish(t, db.Pool, "", 0, 1)
			eventually(t, 20*time.Second, "the first event is settled", func() bool { return settledAll(t, db.Pool) })
			for n := 1; n <= events; n++ {
				publish(t, db.Pool, "", n, n+1)
				for _, l := range ledgers {
					l.waitFor(t, n+1)
				}
			}
			<-blocked
			eventually(t, 20*time.Second, "the others have settled", func() bool {
				s, err := admin.GetStatus(t.Context(), db.Pool)
				if err != nil {
					t.Fatal(err)
				}
				for _, one := range s.Subscriptions {
					switch {
					case one.Name == "slow" && one.Lag.Events != events:
						t.Fatalf("of the one that has handled nothing, %d events are not settled; want %d", one.Lag.Events, events)
					case one.Name != "slow" && one.Lag.Events > 0:
						return false
					}
				}
				return true
			})
			release()
			eventually(t, 20*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
		})
	}
}
