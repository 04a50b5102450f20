package stage

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/systems"
)

// A PublishFunc writes the n-th event in a transaction.
type PublishFunc func(ctx context.Context, tx pgx.Tx, n int64) error

// PublishBy publishes events of a system.
func PublishBy(s systems.System) PublishFunc {
	return func(ctx context.Context, tx pgx.Tx, n int64) error {
		return s.Publish(ctx, tx, []systems.Event{Event(n)})
	}
}

// PublishPlain writes a row of the same size that is no event.
func PublishPlain(ctx context.Context, tx pgx.Tx, n int64) error {
	e := Event(n)
	_, err := tx.Exec(ctx, `insert into public.plain (topic, key, payload) values ($1, $2, $3)`, systems.Topic, e.Key, e.Payload)
	return err
}

// Traffic is producers that commit one order and one event in each transaction.
type Traffic struct {
	Pool      *pgxpool.Pool
	Publish   PublishFunc
	Producers int
	PerSecond float64 // of all producers together; 0 is as fast as they can

	Next      atomic.Int64 // the event to publish next
	Committed atomic.Int64
	sent      stamps // when the commit of each was sent; nil if nobody asks
	Took      atomic.Pointer[measure.Latencies]
}

// run publishes until stop is closed.
func (t *Traffic) run(ctx context.Context, stop <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	start, first := time.Now(), t.Next.Load()
	for range t.Producers {
		group.Go(func() error {
			for {
				n := t.Next.Add(1) - 1
				var wait time.Duration
				if t.PerSecond > 0 {
					wait = time.Until(start.Add(time.Duration(float64(n-first) / t.PerSecond * float64(time.Second))))
				}
				select {
				case <-stop:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				case <-after(wait):
				}
				if err := t.one(ctx, n); err != nil {
					return fmt.Errorf("publish: %w", err)
				}
			}
		})
	}
	return group.Wait()
}

// now is a channel that is ready.
var now = func() <-chan time.Time { c := make(chan time.Time); close(c); return c }()

// after is time.After, and always ready where there is nothing to wait for.
func after(d time.Duration) <-chan time.Time {
	if d <= 0 {
		return now
	}
	return time.After(d)
}

// one commits a transaction.
func (t *Traffic) one(ctx context.Context, n int64) error {
	start := time.Now()
	tx, err := t.Pool.Begin(ctx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `insert into public.orders (name, total) values ($1, $2)`, "an order", n%10_000)
	if err == nil {
		err = t.Publish(ctx, tx, n)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
	}
	if t.sent != nil {
		t.sent.set(n, time.Now())
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	t.Committed.Add(1)
	if took := t.Took.Load(); took != nil {
		took.Add(time.Since(start))
	}
	return nil
}

// First commits one event and waits for it: the worker is there.
func (t *Traffic) First(ctx context.Context, handled *atomic.Int64) error {
	if err := t.one(ctx, t.Next.Add(1)-1); err != nil {
		return err
	}
	return Await(ctx, time.Minute, "the first event is handled", func() bool { return handled.Load() > 0 })
}

// While runs the producers for as long as do takes.
func (t *Traffic) While(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop, done := make(chan struct{}), make(chan struct{})
	var failed error
	go func() {
		defer close(done)
		if failed = t.run(ctx, stop); failed != nil {
			cancel(failed) // do need not go on
		}
	}()
	err := do()
	close(stop)
	<-done
	if failed != nil {
		return failed
	}
	return err
}

// StartWorker runs a system's worker in this process, beside the producers, until stop is called.
func StartWorker(ctx context.Context, s systems.System, d *Database, subscriptions []string, handle systems.Handler) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, d.Pool, subscriptions, handle) }()
	return func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(time.Minute):
			return fmt.Errorf("the worker of %s does not stop", s.Info().Name)
		}
	}
}

// Await waits until a condition holds.
func Await(ctx context.Context, patience time.Duration, what string, condition func() bool) error {
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v", what, patience)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// Pause is a sleep that ctx ends.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
