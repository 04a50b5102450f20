package stage

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/systems"
)

// Backlog is how many events a system that drains so many a second gets: slow ones may take about ten seconds, or as long as a
// steady state is measured.
func (e *Env) Backlog(perSecond float64) int64 {
	return int64(min(float64(e.Events), max(100, perSecond*min(10*time.Second, e.Duration).Seconds())))
}

// Batch is how many events a transaction of a bulk load has.
const Batch = 1000

// Filled returns a database with a backlog of n events.
func (e *Env) Filled(ctx context.Context, s systems.System, n int64) (*Database, error) {
	return e.FilledBy(ctx, s, n, s.Publish)
}

// FilledBy is filled for events that are published in a way of their own.
func (e *Env) FilledBy(ctx context.Context, s systems.System, n int64, publish BulkFunc) (*Database, error) {
	d, err := e.Open(ctx, s)
	if err != nil {
		return nil, err
	}
	if err = e.Fill(ctx, d, n, Batch, publish); err == nil {
		err = d.Calm(ctx)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Fill publishes n events, so many in a transaction.
func (e *Env) Fill(ctx context.Context, d *Database, n, batch int64, publish BulkFunc) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for from := int64(0); from < n; from += batch {
		group.Go(func() error { return publishBatch(ctx, d, publish, from, min(from+batch, n)) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("make a backlog: %w", err)
	}
	return nil
}

// A BulkFunc writes many events in a transaction.
type BulkFunc func(ctx context.Context, tx pgx.Tx, events []systems.Event) error

// publishBatch publishes events in one transaction.
func publishBatch(ctx context.Context, d *Database, publish BulkFunc, from, to int64) error {
	return pgx.BeginFunc(ctx, d.Pool, func(tx pgx.Tx) error { return publish(ctx, tx, Events(from, to)) })
}

// Drained has worker processes handle n deliveries, all there are in a database, and sets rate, start, events, and the peak memory of the first process.
func (e *Env) Drained(ctx context.Context, m *Measurement, d *Database, s systems.System, processes int, o Work, n int64) error {
	c, err := e.StartCrew(ctx, d, s, processes, o)
	if err != nil {
		return err
	}
	defer c.Kill()
	spent, err := e.Costs(ctx)
	if err != nil {
		return err
	}
	m.Begin()
	start := time.Now()
	if err := c.Begin(); err != nil {
		return err
	}
	end, err := c.Handle(ctx, n)
	m.End()
	if err != nil {
		return err
	}
	if err := e.Cost(ctx, m, spent, float64(n)); err != nil {
		return err
	}
	peak, err := measure.PeakMemory(c[0].Cmd.Process.Pid)
	if err != nil {
		return err
	}
	m.Set("peak", peak)
	if err := c.Stop(); err != nil {
		return err
	}
	if handled := c.handled(); handled != n {
		return fmt.Errorf("%d events were handled of %d", handled, n)
	}
	early, from := c.first()
	m.Set("start", float64(from.Sub(start))/float64(time.Millisecond))
	if early > n/2 { // too few events to leave the first out
		early, from = 0, start
	}
	m.Set("rate", float64(n-early)/end.Sub(from).Seconds())
	m.Set("events", float64(n))
	return nil
}

// CopyRaw is the least that puts events into Signalbox's table.
func CopyRaw(ctx context.Context, tx pgx.Tx, events []systems.Event) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"outbox", "events"}, []string{"topic", "key", "payload"},
		pgx.CopyFromSlice(len(events), func(i int) ([]any, error) { return []any{systems.Topic, events[i].Key, events[i].Payload}, nil }))
	return err
}
