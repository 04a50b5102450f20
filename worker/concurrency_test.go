package worker_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestConcurrencyOfSubscriptions has one worker serve subscriptions with different numbers of handlers: each reaches its own number, and
// no more. One that sets none has the worker's.
func TestConcurrencyOfSubscriptions(t *testing.T) {
	t.Parallel()
	const events = 200
	db := pgtest.New(t)
	publish(t, db.Pool, "", 0, events)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), Concurrency: 4})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"one": 1, "sixteen": 16, "default": 4}
	busy := map[string]*gauge{}
	for name, concurrency := range want {
		g := &gauge{wait: int64(concurrency), full: make(chan struct{})}
		busy[name] = g
		s := worker.Subscription{Name: name, Topics: everything, Concurrency: concurrency, ParkAfter: time.Minute}
		if name == "default" {
			s.Concurrency = 0
		}
		err := worker.Handle(w, s, func(ctx context.Context, _ *worker.Event[payload]) error { return g.handle(ctx) })
		if err != nil {
			t.Fatal(err)
		}
	}
	runUntilStopped(t, w)
	for name, g := range busy {
		eventually(t, 30*time.Second, name+" is done", func() bool { return g.done.Load() >= events })
		if _, got := g.add(0); got != int64(want[name]) {
			t.Errorf("%s: %d handlers ran at once, want %d", name, got, want[name])
		}
	}
}

// A gauge counts handlers that run at once. The first of them wait until as many run as should.
type gauge struct {
	wait      int64
	full      chan struct{}
	closeFull sync.Once
	done      atomic.Int64

	mu        sync.Mutex
	now, most int64
}

// add notes that so many more handlers run, and returns how many do and have done at most.
func (g *gauge) add(n int64) (now, most int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now += n
	g.most = max(g.most, g.now)
	return g.now, g.most
}

func (g *gauge) handle(ctx context.Context) error {
	defer g.add(-1)
	if now, _ := g.add(1); now >= g.wait {
		g.closeFull.Do(func() { close(g.full) })
	}
	select {
	case <-g.full:
	case <-ctx.Done():
		return ctx.Err()
	}
	g.done.Add(1)
	return nil
}

// TestWindowSizeOfSubscriptions has one worker serve subscriptions with windows of different sizes, from the first one on.
func TestWindowSizeOfSubscriptions(t *testing.T) {
	t.Parallel()
	const events = 5000 // in many windows, of which one is not delayed by a busy machine, so that the next is large
	db := pgtest.New(t)
	publish(t, db.Pool, "", 0, events)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), WindowSize: 128})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"small": 64, "large": 640, "default": 128}
	most, done := map[string]*atomic.Int64{}, map[string]*atomic.Int64{}
	for name, size := range want {
		most[name], done[name] = &atomic.Int64{}, &atomic.Int64{}
		s := worker.Subscription{Name: name, Topics: everything, WindowSize: int(size)}
		if name == "default" {
			s.WindowSize = 0
		}
		err := worker.HandleBatch(w, s, func(_ context.Context, batch []*worker.Event[payload]) error { // one call at a time
			most[name].Store(max(most[name].Load(), int64(len(batch))))
			done[name].Add(int64(len(batch)))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	runUntilStopped(t, w)
	for name, size := range want {
		eventually(t, 30*time.Second, name+" is done", func() bool { return done[name].Load() >= events })
		if got := most[name].Load(); got > size || got <= size/2 {
			t.Errorf("%s: the largest window had %d events, want more than %d and at most %d", name, got, size/2, size)
		}
	}
}
