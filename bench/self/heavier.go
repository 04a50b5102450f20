package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

// workersCell measures a subscription that so many workers share.
func workersCell(e *stage.Env, s scale, workers int) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		ours := e.Systems[0]
		d, err := e.Open(ctx, ours)
		if err != nil {
			return err
		}
		defer d.Close()
		if _, err := begin(ctx, d); err != nil {
			return err
		}
		service := stage.NewService(d, ours, 8, growthRate)
		stop, err := work(ctx, d, workers, service.Handle)
		if err != nil {
			return err
		}
		err = allServe(ctx, d, workers)
		if err == nil {
			err = measureTraffic(ctx, e, m, service, growthRate)
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
	err := stage.Await(ctx, stage.StuckAfter, "what was published is handled", func() bool { return service.Handled.Load() >= service.Committed.Load() })
	if err != nil {
		return err
	}
	before := service.Handled.Load()
	publish := systems.New().Publish
	if err := pgx.BeginFunc(ctx, service.Pool, func(tx pgx.Tx) error { return publish(ctx, tx, stage.Events(0, n)) }); err != nil {
		return err
	}
	start := time.Now()
	err = stage.Progress(ctx, n, func() int64 { return service.Handled.Load() - before }, func() error { return nil })
	m.Set("rate", float64(n)/time.Since(start).Seconds())
	return err
}

// payloadCell measures events of a size.
func payloadCell(e *stage.Env, s scale, size int) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		ours, n := e.Systems[0], drained(s, size)
		d, err := e.Open(ctx, ours)
		if err != nil {
			return err
		}
		defer d.Close()
		if _, err := begin(ctx, d); err != nil {
			return err
		}
		publish := func(ctx context.Context, tx pgx.Tx, events []systems.Event) error {
			for i := range events {
				events[i] = sized(events[i], size)
			}
			return ours.Publish(ctx, tx, events)
		}
		service := stage.NewService(d, ours, 8, growthRate)
		service.Publish = func(ctx context.Context, tx pgx.Tx, n int64) error {
			return publish(ctx, tx, stage.Events(n, n+1))
		}
		stop, err := work(ctx, d, 1, service.Handle)
		if err != nil {
			return err
		}
		err = measureTraffic(ctx, e, m, service, min(growthRate, float64(growthBandwidth/size)))
		if err == nil {
			err = stage.Await(ctx, stage.StuckAfter, "what was published is handled", func() bool { return service.Handled.Load() >= service.Committed.Load() })
		}
		if err = errors.Join(err, stop()); err != nil {
			return err
		}
		if err := e.Fill(ctx, d, n, min(stage.Batch, max(1, growthBandwidth/int64(size))), publish); err != nil {
			return err
		}
		if err := e.Drained(ctx, m, d, ours, 1, stage.Work{}, n); err != nil {
			return err
		}
		return expire(ctx, m, d, 0, n)
	}
}

// sized returns an event whose payload has so many bytes.
func sized(event systems.Event, size int) systems.Event {
	const tail = `"}`
	payload := fmt.Appendf(nil, `{"n":%d,"note":"`, stage.Sequence(event.Payload))
	payload = append(payload, bytes.Repeat([]byte("x"), max(0, size-len(payload)-len(tail)))...)
	payload = append(payload, tail...)
	event.Payload = payload
	return event
}
