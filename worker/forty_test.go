package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestPoolIsFair has forty transactional subscriptions work off as much each, over a pool of four connections: while they do, none has
// handled less than a third of what they have on average.
func TestPoolIsFair(t *testing.T) {
	t.Parallel()
	const subscriptions, each = 40, 300
	db := pgtest.New(t)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	var (
		handled [subscriptions]atomic.Int64
		total   atomic.Int64
		half    = make(chan []int64, 1)
	)
	for i := range subscriptions {
		s := worker.Subscription{Name: fmt.Sprint("s", i), Topics: everything, WindowSize: 25}
		err := worker.HandleTx(w, s, func(ctx context.Context, tx pgx.Tx, _ *worker.Event[payload]) error {
			if _, err := tx.Exec(ctx, "select 1"); err != nil {
				return err
			}
			handled[i].Add(1)
			if total.Add(1) == subscriptions*(1+each/2) {
				var counts []int64
				for j := range handled {
					counts = append(counts, handled[j].Load())
				}
				half <- counts
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	runUntilStopped(t, w)
	publish(t, db.Pool, "k", 0, 1)
	eventually(t, 60*time.Second, "each serves", func() bool { return total.Load() >= subscriptions })
	publish(t, db.Pool, "k", 1, 1+each) // of one lane: else a window has an event of each, and they differ by whole windows
	eventually(t, 5*time.Minute, "all is handled", func() bool { return total.Load() >= subscriptions*(1+each) && settledAll(t, db.Pool) })
	counts := <-half
	slices.Sort(counts)
	const mean = 1 + each/2
	if t.Log(counts); counts[0] < mean/3 { // windows have 64 events
		t.Errorf("when %d events were handled on average, one subscription had %d", mean, counts[0])
	}
}

// TestTakeoverOfForty kills a worker that shares its lanes with another one: with forty subscriptions, that one evicts it at once for all of
// them, long before its lease is over, and needs a few round trips for each to have its lanes.
func TestTakeoverOfForty(t *testing.T) {
	t.Parallel()
	const lease = time.Minute
	tripsOf := func(n int) int64 {
		db := pgtest.New(t)
		var trips atomic.Int64
		victim := spawn(t, processConfig{URL: db.URL, Name: "victim", Many: n, Lease: lease})
		owned := func(by string) (lanes int) {
			if err := db.Pool.QueryRow(t.Context(), `
				select count(*) from outbox.lanes l join outbox.workers w on w.id = l.owner where w.name = $1`, by).Scan(&lanes); err != nil {
				t.Fatal(err)
			}
			return lanes
		}
		eventually(t, 60*time.Second, "the first one owns all", func() bool { return owned("victim") == n*engine.Lanes })
		serveTopics(t, &pgtest.DB{Pool: counted(t, db, &trips, "signalbox worker")}, "heir", n)
		eventually(t, 60*time.Second, "they share", func() bool { return owned("heir") == n*engine.Lanes/2 && owned("victim") == n*engine.Lanes/2 })
		before := trips.Load()
		victim.Kill()
		took := eventually(t, lease/2, "the other one owns all", func() bool { return owned("heir") == n*engine.Lanes })
		t.Logf("%d subscriptions: %d round trips, %v", n, trips.Load()-before, took)
		return trips.Load() - before
	}
	const each = 10
	if one, forty := tripsOf(1), tripsOf(40); forty > one+40*each {
		t.Errorf("there were %d round trips to take over forty subscriptions, and %d for one", forty, one)
	}
}

// TestSlowAndFailingBeside has a subscription whose handlers do not return and two whose handlers always fail beside others, while so much is
// published that the slow one is left out: the others handle all of it meanwhile, and it does so in the end.
func TestSlowAndFailingBeside(t *testing.T) {
	t.Parallel()
	const burst, bursts, others = 40, 20, 3
	db := pgtest.New(t)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	var failures [2]atomic.Int64
	blocked, goOn := make(chan struct{}, bursts*burst), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	slow := newLedger()
	of := func(name string) worker.Subscription {
		return worker.Subscription{Name: name, Topics: everything, WindowSize: 100, Retry: worker.Retry{
			MaxAttempts: 1000, Delay: func(int) time.Duration { return 50 * time.Millisecond },
		}}
	}
	err = errors.Join(
		worker.HandleBatch(w, of("slow"), func(_ context.Context, events []*worker.Event[payload]) error {
			blocked <- struct{}{}
			<-goOn
			for _, e := range events {
				slow.add(e)
			}
			return nil
		}),
		worker.Handle(w, of("failing"), func(context.Context, *worker.Event[payload]) error {
			failures[0].Add(1)
			return errors.New("as always")
		}),
		worker.HandleTx(w, of("failingtx"), func(context.Context, pgx.Tx, *worker.Event[payload]) error {
			failures[1].Add(1)
			return errors.New("as always")
		}),
	)
	var fast [others]*ledger
	for i := range fast {
		fast[i] = newLedger()
		err = errors.Join(err, worker.Handle(w, of(fmt.Sprint("fast", i)), record(fast[i])))
	}
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	for b := range bursts {
		publish(t, db.Pool, fmt.Sprint("k", b), b*burst, (b+1)*burst)
		for _, l := range fast {
			l.waitFor(t, (b+1)*burst)
		}
		if b == 0 {
			<-blocked
		}
	}
	if n := len(slow.all()); n > 0 {
		t.Errorf("the slow one has handled %d events", n)
	}
	for i := range failures {
		eventually(t, patience, "a handler that fails is called", func() bool { return failures[i].Load() > 0 })
	}
	release()
	if n := len(slow.waitFor(t, bursts*burst)); n != bursts*burst {
		t.Errorf("the slow one has handled %d events, want %d", n, bursts*burst)
	}
}
