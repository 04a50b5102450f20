package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

// payloadCell measures events of a size.
func payloadCell(e *stage.Env, s scale, size int) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		ours, n := e.Systems[0], drained(s, size)
		d, err := opened(ctx, e)
		if err != nil {
			return err
		}
		defer d.Close()
		publish := func(ctx context.Context, tx pgx.Tx, events []systems.Event) error {
			for i := range events {
				events[i] = sized(events[i], size)
			}
			return ours.Publish(ctx, tx, events)
		}
		service := stage.NewService(d, ours, 8, min(growthRate, float64(growthBandwidth/size)))
		service.Publish = func(ctx context.Context, tx pgx.Tx, n int64) error {
			return publish(ctx, tx, stage.Events(n, n+1))
		}
		stop, err := work(ctx, d, 1, service.Handle)
		if err != nil {
			return err
		}
		err = measureTraffic(ctx, e, m, service)
		if err == nil {
			err = caughtUp(ctx, service)
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
