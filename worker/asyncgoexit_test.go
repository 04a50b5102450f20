package worker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// ending is middleware that ends the goroutine which tells it of an end.
func ending(ctx context.Context, _ worker.Call) (context.Context, func(error)) {
	return ctx, func(error) { runtime.Goexit() }
}

// TestAsyncGoexit has the second attempt at each of many events, which are deliveries by then, end its goroutine, as does what is called with the answer: the
// others of their batch are begun all the same.
func TestAsyncGoexit(t *testing.T) {
	t.Parallel()
	const all = 20
	db := pgtest.New(t)
	publishNumbered(t, db, all, func(i int) string { return fmt.Sprint("key-", i) })
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := worker.Subscription{
		Name: "s", Topics: everything, BreakerAfter: worker.Unlimited, AsyncMiddleware: []worker.AsyncMiddleware{ending},
		Retry: worker.Retry{Delay: func(int) time.Duration { return time.Millisecond }},
	}
	err = worker.HandleAsync(w, s, worker.Strict, func(_ context.Context, e *worker.Event[payload], done func(error)) {
		switch e.Attempt {
		case 1:
			done(errors.New("no"))
		case 2:
			runtime.Goexit()
		default:
			done(nil)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	eventually(t, 30*time.Second, "all are delivered", func() bool { return settledAll(t, db.Pool) && len(rows(t, db)) == 0 })
}

// TestAsyncGoexitAtShutdown stops a worker whose client does not answer, and what is called with the answer ends its goroutine: the events go to
// another worker all the same, and no attempt is counted.
func TestAsyncGoexitAtShutdown(t *testing.T) {
	t.Parallel()
	const all = 10
	db := pgtest.New(t)
	publishNumbered(t, db, all, func(i int) string { return fmt.Sprint("key-", i) })
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), ShutdownTimeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	begun := 0
	s := worker.Subscription{Name: "s", Topics: everything, AsyncMiddleware: []worker.AsyncMiddleware{ending}}
	err = worker.HandleAsync(w, s, worker.Strict, func(context.Context, *worker.Event[payload], func(error)) {
		mu.Lock()
		defer mu.Unlock()
		begun++
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := runUntilStopped(t, w)
	eventually(t, 30*time.Second, "all are in flight", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return begun == all
	})
	stop()
	list := rows(t, db)
	if i := slices.IndexFunc(list, func(r row) bool { return r.State != "retrying" || r.Attempt != 0 || len(r.Errors) > 0 }); i >= 0 || len(list) != all {
		t.Errorf("left: %+v", list)
	}
}

// TestAsyncTreacherousAnswer has a client answer with an error that ends the client's goroutine when it is asked what it says: it is an answer, and
// the attempt does not wait for its timeout.
func TestAsyncTreacherousAnswer(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publish(t, db.Pool, "key", 0, 2)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := worker.Subscription{Name: "s", Topics: everything, Timeout: worker.Unlimited, Retry: worker.Retry{Delay: func(int) time.Duration { return 0 }}}
	err = worker.HandleAsync(w, s, worker.Strict, func(_ context.Context, e *worker.Event[payload], done func(error)) {
		if e.Attempt > 1 {
			done(nil)
			return
		}
		go done(&treacherous{"Error", goexits})
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	eventually(t, 30*time.Second, "all are delivered", func() bool { return settledAll(t, db.Pool) && len(rows(t, db)) == 0 })
}

// TestAsyncStrictFailsForItself has the second event of a strict key fail once the first one has become a dead letter: that is an attempt like any
// other.
func TestAsyncStrictFailsForItself(t *testing.T) {
	t.Parallel()
	const all = 20
	for _, parkAfter := range []time.Duration{time.Minute, 20 * time.Millisecond} {
		t.Run(fmt.Sprint("parked after ", parkAfter), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			for k := range all {
				publish(t, db.Pool, fmt.Sprint("key-", k), 0, 2)
			}
			w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
			if err != nil {
				t.Fatal(err)
			}
			s := worker.Subscription{
				Name: "s", Topics: everything, BreakerAfter: worker.Unlimited, ParkAfter: parkAfter,
				Retry: worker.Retry{Delay: func(int) time.Duration { return time.Millisecond }},
			}
			var mu sync.Mutex
			tried := map[string][]int{}
			err = worker.HandleAsync(w, s, worker.Strict, func(_ context.Context, e *worker.Event[payload], done func(error)) {
				if e.Payload.N == 0 {
					done(worker.DeadLetter(errors.New("for good")))
					return
				}
				mu.Lock()
				tried[e.Key] = append(tried[e.Key], e.Attempt)
				n := len(tried[e.Key])
				mu.Unlock()
				answer := error(nil)
				if n < 3 {
					answer = errors.New("for a while")
				}
				if parkAfter < time.Second && n == 1 {
					time.AfterFunc(5*parkAfter, func() { done(answer) })
					return
				}
				done(answer)
			})
			if err != nil {
				t.Fatal(err)
			}
			runUntilStopped(t, w)
			eventually(t, 30*time.Second, "all is over", func() bool { return settledAll(t, db.Pool) && len(rows(t, db)) == all })
			mu.Lock()
			defer mu.Unlock()
			for key, attempts := range tried {
				if !slices.Equal(attempts, []int{1, 2, 3}) {
					t.Errorf("%s: attempts %v", key, attempts)
				}
			}
		})
	}
}
