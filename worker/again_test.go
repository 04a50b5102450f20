package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestFailingKeysBesideNew has sixty keys that always fail, and are always due, beside a backlog of other keys, where what failed is tried in
// the turns of windows: few of them are tried between two windows, but they go on, also while there is always something new.
func TestFailingKeysBesideNew(t *testing.T) {
	t.Parallel()
	const failing, windows, size = 60, 100, 16
	for _, name := range []string{"tx", "batch tx", "batch"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			var (
				mu      sync.Mutex
				slow    bool // whether what fails takes a while
				tried   int  // attempts that failed
				from    int  // those before the first of the others was handled
				handled int  // others
				between int  // attempts that failed since then, until all the others were handled
			)
			handle := func(_ context.Context, _ execer, e *worker.Event[payload]) error {
				mu.Lock()
				defer mu.Unlock()
				if strings.HasPrefix(e.Key, "fails") {
					tried++
					if slow {
						time.Sleep(2 * time.Millisecond) // what the handler does
					}
					return errors.New("no")
				}
				switch handled++; handled {
				case 1:
					from = tried
				case windows * size:
					between = tried - from
				}
				return nil
			}
			w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), WindowSize: size})
			if err != nil {
				t.Fatal(err)
			}
			s := worker.Subscription{
				Name: "s", Topics: everything, BreakerAfter: worker.Unlimited,
				Retry: worker.Retry{MaxAttempts: worker.Unlimited, Delay: func(int) time.Duration { return time.Millisecond }},
			}
			if err := formNamed(name).register(w, s, db, handle); err != nil {
				t.Fatal(err)
			}
			runUntilStopped(t, w)
			publishNumbered(t, db, failing, func(n int) string { return fmt.Sprint("fails-", n) })
			eventually(t, 30*time.Second, "they have failed a few times", func() bool {
				mu.Lock()
				defer mu.Unlock()
				slow = tried >= 10*failing
				return slow
			})
			publishNumbered(t, db, windows*size, func(n int) string { return fmt.Sprint(n) })
			eventually(t, 60*time.Second, "the others are handled", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return handled >= windows*size
			})
			mu.Lock()
			t.Logf("%d events were handled beside %d attempts that failed", handled, between)
			if between > 2*windows {
				t.Errorf("%d attempts failed while %d windows of other keys waited", between, windows)
			}
			more := tried + failing/3
			mu.Unlock()
			eventually(t, 60*time.Second, "they are tried, too", func() bool {
				publishNumbered(t, db, 2*size, func(n int) string { return fmt.Sprint(n) })
				mu.Lock()
				defer mu.Unlock()
				return tried >= more
			})
		})
	}
}
