package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestRetention keeps the log for 20 ms, while transactions are open for longer than that, handlers fail and are slow, workers
// come and go, and a subscription is paused. Whatever was committed is delivered to every subscription, and in the end the
// log is empty.
func TestRetention(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	const publishers, long = 6, 4 * time.Second
	deadline := time.Now().Add(long)
	var (
		ledgers    = map[string]*ledger{"fast": newLedger(), "slow": newLedger()}
		committed  [publishers]int
		publishing sync.WaitGroup
	)
	crew := func() (stop func()) {
		w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), Retention: 20 * time.Millisecond, PollInterval: 100 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		for name, l := range ledgers {
			s := worker.Subscription{Name: name, Topics: everything, ParkAfter: 10 * time.Millisecond, Retry: worker.Retry{InitialInterval: 30 * time.Millisecond}}
			if err := worker.Handle(w, s, func(_ context.Context, e *worker.Event[payload]) error {
				if name == "slow" {
					time.Sleep(rand.N(15 * time.Millisecond))
					if rand.N(20) == 0 {
						return errors.New("not this time")
					}
				}
				l.add(e)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		return runUntilStopped(t, w)
	}
	stop := []func(){crew(), crew()}
	eventually(t, 20*time.Second, "both subscriptions exist", func() bool {
		list, err := admin.ListSubscriptions(ctx, db.Pool)
		return err == nil && len(list) == 2
	})
	for p := range publishers {
		conn := db.Conn(t)
		publishing.Go(func() {
			for time.Now().Before(deadline) {
				n := committed[p]
				err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
					for range 1 + rand.N(3) {
						key := ""
						if n%3 > 0 {
							key = fmt.Sprint("key-", p)
						}
						e, err := outbox.NewEvent(fmt.Sprint("by.", p), key, payload{n})
						if err == nil {
							_, err = outbox.Publish(ctx, tx, e)
						}
						if err != nil {
							return err
						}
						n++
						if rand.N(10) == 0 {
							time.Sleep(rand.N(300 * time.Millisecond)) // longer than events are kept
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				committed[p] = n
			}
		})
	}
	deleted := func() bool {
		var n int
		err := db.Pool.QueryRow(ctx, `select count(*) from outbox.trimmed t where t.up_to > 0`).Scan(&n)
		return err == nil && n > 0
	}
	eventually(t, 20*time.Second, "events are deleted", deleted)
	for n := 0; time.Now().Before(deadline); n++ {
		if err := admin.Pause(ctx, db.Pool, "slow"); err != nil {
			t.Fatal(err)
		}
		stop[n%2]()
		stop[n%2] = crew()
		if err := admin.Resume(ctx, db.Pool, "slow"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(300 * time.Millisecond)) // the fault to inject
	}
	publishing.Wait()
	eventually(t, 60*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	for name, l := range ledgers {
		seen := map[string]int{}
		for _, e := range l.all() {
			seen[fmt.Sprint(e.Topic, " ", e.Payload.N)]++
		}
		lost, total := 0, 0
		for p, count := range committed {
			total += count
			for n := range count {
				if seen[fmt.Sprintf("by.%d %d", p, n)] == 0 {
					lost++
				}
			}
		}
		if t.Logf("%s: %d of %d lost", name, lost, total); lost > 0 || len(seen) != total {
			t.Errorf("%s: %d of %d events were lost, %d were seen", name, lost, total, len(seen))
		}
	}
	stop[0]()
	stop[1]() // a new sentinel looks for what committed late, too
	crew()
	eventually(t, 20*time.Second, "the log is empty", func() bool {
		var n int
		err := db.Pool.QueryRow(ctx, `select count(*) from outbox.events`).Scan(&n)
		return err == nil && n == 0
	})
}
