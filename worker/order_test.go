package worker_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

var orderFor = flag.Duration("order", 8*time.Second, "how long TestOrderThroughEverything kills workers")

// TestOrderOfHeldKeys is TestOrderThroughEverything for few keys with more events than their lines take, so that they are held, and
// for transactions that commit late, in lanes whose cursors have passed them.
func TestOrderOfHeldKeys(t *testing.T) {
	t.Parallel()
	orderThroughEverything(t, 8, 25, 30*time.Millisecond)
}

// TestOrderThroughEverything has handlers fail, panic, take long and ask for retries at random, in three workers that are killed
// and stopped at random, over 200 keys. In the end, the first successes of each key are in the order in which its events were
// published, all of them are there, and nothing is left over.
func TestOrderThroughEverything(t *testing.T) {
	t.Parallel()
	orderThroughEverything(t, 200, 3, 0)
}

// orderThroughEverything publishes up to burst events at a time for each of so many keys, in transactions that take up to late.
func orderThroughEverything(t *testing.T, keys, burst int, late time.Duration) {
	const workers = 3
	db := pgtest.New(t)
	if _, err := db.Pool.Exec(t.Context(), `create table public.handled (seq bigint primary key generated always as identity, key text not null, n integer not null)`); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(*orderFor)
	published := make([]int, keys)
	var publishing sync.WaitGroup
	for p := range 4 {
		publishing.Go(func() {
			for time.Now().Before(deadline) {
				k := p + 4*rand.N(keys/4) // each key has one publisher, so that its order is known
				err := pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
					for range 1 + rand.N(burst) {
						e, err := outbox.NewEvent("test.happened", fmt.Sprint("key-", k), payload{published[k]})
						if err == nil {
							_, err = outbox.Publish(t.Context(), tx, e)
						}
						if err != nil {
							return err
						}
						published[k]++
					}
					if late > 0 {
						time.Sleep(rand.N(late)) // the fault to inject: others publish, and are read
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	lives := 0
	live := func(n int) *process {
		lives++
		return spawn(t, processConfig{URL: db.URL, Subscription: "s", Name: fmt.Sprintf("worker-%d-%d", n, lives), Attempts: 1000, Random: true})
	}
	crew := make([]*process, workers)
	for n := range crew {
		crew[n] = live(n)
	}
	for time.Now().Before(deadline) {
		time.Sleep(rand.N(1500 * time.Millisecond)) // the fault to inject
		n := rand.N(workers)
		if rand.N(3) == 0 {
			crew[n].Signal(syscall.SIGTERM)
		} else {
			crew[n].Signal(syscall.SIGKILL)
		}
		<-crew[n].Ended()
		crew[n] = live(n)
	}
	publishing.Wait()
	var held int
	if err := db.Pool.QueryRow(t.Context(), `select count(*) from outbox.held_keys`).Scan(&held); err != nil {
		t.Fatal(err)
	}
	var left []row
	eventually(t, 60*time.Second, "all is settled", func() bool { left = rows(t, db); return len(left) == 0 && settledAll(t, db.Pool) })
	for _, p := range crew {
		p.stop(t)
	}

	found, err := db.Pool.Query(t.Context(), `select key, n from public.handled order by seq`)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	next := map[string]int{}
	repeated := 0
	for found.Next() {
		var key string
		var n int
		if err := found.Scan(&key, &n); err != nil {
			t.Fatal(err)
		}
		switch {
		case n < next[key]:
			repeated++
		case n > next[key]:
			t.Errorf("%s: event %d succeeded before event %d", key, n, next[key])
			next[key] = n + 1
		default:
			next[key]++
		}
	}
	total := 0
	for k, n := range published {
		total += n
		if got := next[fmt.Sprint("key-", k)]; got != n {
			t.Errorf("key-%d: %d of %d events succeeded", k, got, n)
		}
	}
	t.Logf("%d events, %d lives of %d workers, %d repeated; %d keys were held", total, lives, workers, repeated, held)
}
