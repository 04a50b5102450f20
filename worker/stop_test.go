package worker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestStopBesideReturn has the handler of a parked event return while the worker is told to stop, and the runner be about to sleep: it does not wait for
// what it was woken for. Which of the two wakes it is chance, so there are several workers.
func TestStopBesideReturn(t *testing.T) {
	t.Parallel()
	for i := range 6 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			publish(t, db.Pool, "", 0, 2)
			returns := []chan struct{}{make(chan struct{}), make(chan struct{})}
			told, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			hooks := worker.Hooks{AttemptEnded: func(context.Context, worker.Attempt) {
				once.Do(func() { close(told) })
				<-goOn
			}}
			cfg := worker.Config{
				Logger: testLogger(t), PollInterval: time.Hour, Lease: 3 * time.Hour, ShutdownTimeout: worker.Unlimited, Hooks: []worker.Hooks{hooks},
			}
			w, err := worker.New(db.Pool, cfg)
			if err != nil {
				t.Fatal(err)
			}
			returned := make(chan int, 2)
			err = worker.Handle(w, worker.Subscription{Name: "s", Topics: everything, ParkAfter: 10 * time.Millisecond}, func(_ context.Context, e *worker.Event[payload]) error {
				<-returns[e.Payload.N]
				defer func() { returned <- e.Payload.N }()
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx) }()
			eventually(t, 30*time.Second, "both are parked", func() bool {
				list := rows(t, db)
				return len(list) == 2 && list[0].State == "running" && list[1].State == "running"
			})
			close(returns[0])
			<-told // the runner waits for the hook
			close(returns[1])
			<-returned
			<-returned
			cancel()
			close(goOn)
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(20 * time.Second):
				t.Error("it does not stop")
			}
			if list := rows(t, db); len(list) != 0 {
				t.Errorf("left: %+v", list)
			}
		})
	}
}
