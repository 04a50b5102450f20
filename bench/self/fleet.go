package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

// workersCell measures a subscription that so many workers share.
func workersCell(e *stage.Env, s scale, workers int) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		d, err := opened(ctx, e)
		if err != nil {
			return err
		}
		defer d.Close()
		service := stage.NewService(d, e.Systems[0], 8, growthRate)
		stop, err := work(ctx, d, workers, service.Handle)
		if err != nil {
			return err
		}
		err = allServe(ctx, d, workers)
		if err == nil {
			err = measureTraffic(ctx, e, m, service)
		}
		if err == nil {
			err = drainAtOnce(ctx, m, service, drained(s, 1))
		}
		return errors.Join(err, stop())
	}
}

// allServe waits until each worker has its lanes; of more than there are lanes, some have none.
func allServe(ctx context.Context, d *stage.Database, workers int) error {
	const lanes = 64
	var failed error
	err := stage.Await(ctx, time.Minute, "all workers have lanes", func() bool {
		var there, serving int
		failed = d.Pool.QueryRow(ctx, `
			select (select count(*) from outbox.workers), (select count(distinct l.owner) from outbox.lanes l)`).Scan(&there, &serving)
		return failed != nil || there == workers && serving == min(workers, lanes)
	})
	return errors.Join(err, failed)
}

// drainAtOnce publishes a backlog in one transaction, and has it drained.
func drainAtOnce(ctx context.Context, m *stage.Measurement, service *stage.Service, n int64) error {
	if err := caughtUp(ctx, service); err != nil {
		return err
	}
	before := service.Handled.Load()
	publish := systems.New().Publish
	if err := pgx.BeginFunc(ctx, service.Pool, func(tx pgx.Tx) error { return publish(ctx, tx, stage.Events(0, n)) }); err != nil {
		return err
	}
	start := time.Now()
	err := stage.Progress(ctx, n, func() int64 { return service.Handled.Load() - before }, func() error { return nil })
	m.Set("rate", float64(n)/time.Since(start).Seconds())
	return err
}
