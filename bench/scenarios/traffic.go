package scenarios

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

// A publishFunc writes the n-th event in a transaction.
type publishFunc func(ctx context.Context, tx pgx.Tx, n int64) error

func publishBy(s systems.System) publishFunc {
	return func(ctx context.Context, tx pgx.Tx, n int64) error {
		return s.Publish(ctx, tx, []systems.Event{event(n)})
	}
}

// publishPlain writes a row of the same size that is no event.
func publishPlain(ctx context.Context, tx pgx.Tx, n int64) error {
	e := event(n)
	_, err := tx.Exec(ctx, `insert into public.plain (topic, key, payload) values ($1, $2, $3)`, systems.Topic, e.Key, e.Payload)
	return err
}

// traffic is producers that commit one order and one event in each transaction.
type traffic struct {
	pool      *pgxpool.Pool
	publish   publishFunc
	producers int
	perSecond float64 // of all producers together; 0 is as fast as they can

	next      atomic.Int64 // the event to publish next
	committed atomic.Int64
	sent      stamps // when the commit of each was sent; nil if nobody asks
	took      atomic.Pointer[measure.Latencies]
}

// run publishes until stop is closed.
func (t *traffic) run(ctx context.Context, stop <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	start, first := time.Now(), t.next.Load()
	for range t.producers {
		group.Go(func() error {
			for {
				n := t.next.Add(1) - 1
				var wait time.Duration
				if t.perSecond > 0 {
					wait = time.Until(start.Add(time.Duration(float64(n-first) / t.perSecond * float64(time.Second))))
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
func (t *traffic) one(ctx context.Context, n int64) error {
	start := time.Now()
	tx, err := t.pool.Begin(ctx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `insert into public.orders (name, total) values ($1, $2)`, "an order", n%10_000)
	if err == nil {
		err = t.publish(ctx, tx, n)
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
	t.committed.Add(1)
	if took := t.took.Load(); took != nil {
		took.Add(time.Since(start))
	}
	return nil
}

// startWorker runs a system's worker in this process, beside the producers, until stop is called.
func startWorker(ctx context.Context, s systems.System, d *database, subscriptions []string, handle systems.Handler) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, d.pool, subscriptions, handle) }()
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

// await waits until a condition holds.
func await(ctx context.Context, patience time.Duration, what string, condition func() bool) error {
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

// pause is a sleep that ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
