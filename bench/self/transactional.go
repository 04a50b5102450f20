package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/worker"
)

// Names of the two forms.
const (
	oneByOne = "HandleTx"
	bySlice  = "HandleBatchTx"
)

func transactional() stage.Scenario {
	return stage.Scenario{
		Scenario: report.Scenario{
			Number: 11,
			Title:  "Transactional handlers",
			Method: `A worker drains a backlog, and its handler writes one row for each event in the transaction that settles it: with HandleTx by one
insert an event, with HandleBatchTx by one for the events of a window (insert … select from unnest). Each effect is counted afterwards: there is exactly one
for each event.`,
			Columns: []report.Column{{Key: "rate", Title: "events/s"}, {Key: "events", Title: "events"}},
		},
		Cells: func(e *stage.Env) []stage.Cell {
			return []stage.Cell{{Name: oneByOne, System: systems.Signalbox, Run: handleTx(e)}, {Name: bySlice, System: systems.Signalbox, Run: handleBatchTx(e)}}
		},
		Targets: []report.Target{{
			What: bySlice, Of: report.Ref{Case: bySlice, System: systems.Signalbox, Value: "rate"}, AtLeast: 100_000, Unit: "events/s",
		}},
	}
}

type effectEvent = worker.Event[json.RawMessage]

func handleTx(e *stage.Env) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		return effects(ctx, e, m, min(int64(e.Events), 50_000), func(w *worker.Worker, s worker.Subscription, handled *counter) error {
			return worker.HandleTx(w, s, func(ctx context.Context, tx pgx.Tx, event *effectEvent) error {
				_, err := tx.Exec(ctx, `insert into public.effects (event_id, payload) values ($1, $2)`, event.ID, event.Payload)
				handled.add(1)
				return err
			})
		})
	}
}

func handleBatchTx(e *stage.Env) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		return effects(ctx, e, m, int64(e.Events), func(w *worker.Worker, s worker.Subscription, handled *counter) error {
			return worker.HandleBatchTx(w, s, func(ctx context.Context, tx pgx.Tx, events []*effectEvent) error {
				ids, payloads := make([]int64, len(events)), make([]string, len(events))
				for i, event := range events {
					ids[i], payloads[i] = event.ID, string(event.Payload)
				}
				_, err := tx.Exec(ctx, `
				insert into public.effects (event_id, payload)
				select e.id, e.payload::jsonb from unnest($1::bigint[], $2::text[]) as e (id, payload)`, ids, payloads)
				handled.add(int64(len(events)))
				return err
			})
		})
	}
}

// A counter remembers when it was first added to.
type counter struct {
	n     atomic.Int64
	early atomic.Int64 // what it was then
	from  atomic.Int64 // ns
}

func (c *counter) add(n int64) {
	if sum := c.n.Add(n); c.from.CompareAndSwap(0, time.Now().UnixNano()) {
		c.early.Store(sum)
	}
}

// effects drains n events by a worker in this process, and counts what it left.
func effects(ctx context.Context, e *stage.Env, m *stage.Measurement, n int64, register func(*worker.Worker, worker.Subscription, *counter) error) error {
	d, err := e.Filled(ctx, e.Systems[0], n)
	if err != nil {
		return err
	}
	defer d.Close()
	w, err := worker.New(d.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	var handled counter
	if err := register(w, worker.Subscription{Name: systems.DefaultSubscription, Topics: []string{systems.Topic}}, &handled); err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- w.Run(running) }()
	m.Begin()
	err = stage.Await(ctx, 10*time.Minute, "all events are handled", func() bool { return handled.n.Load() >= n })
	end := time.Now()
	m.End()
	cancel()
	if err := errors.Join(err, <-done); err != nil {
		return err
	}
	var effects int64
	if err := d.Pool.QueryRow(ctx, `select count(*) from public.effects`).Scan(&effects); err != nil {
		return err
	}
	if effects != n {
		return fmt.Errorf("%d effects of %d events", effects, n)
	}
	early, from := handled.early.Load(), time.Unix(0, handled.from.Load())
	m.Set("rate", float64(n-early)/end.Sub(from).Seconds())
	m.Set("events", float64(n))
	return nil
}
