package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

const heldCase = "full speed"

func heldSnapshot(held time.Duration) stage.Scenario {
	return stage.Scenario{
		Scenario: report.Scenario{
			Number: 6,
			Title:  "Held snapshot",
			Method: `16 producers at full speed and a worker, as in scenario 2, beside a transaction that has read one row under repeatable
read and then does nothing, so vacuum can remove no row version that was there since. The first and the last minute of it are compared (a quarter
each, if it is held for less than four). Sizes are those of all tables and indexes of the database at the end, domain rows included. One round.`,
			Columns: []report.Column{
				{Key: "ratio", Title: "last ÷ first"},
				{Key: "first", Title: "out/s, first"},
				{Key: "last", Title: "out/s, last"},
				{Key: "in", Title: "in/s, last"},
				{Key: "p50", Title: "p50 ms, last"},
				{Key: "p99", Title: "p99 ms, last"},
				{Key: "tables", Title: "tables MiB"},
				{Key: "indexes", Title: "indexes MiB"},
				{Key: "bytes", Title: "bytes an event"},
			},
		},
		Once: true,
		Cells: func(e *stage.Env) []stage.Cell {
			var cells []stage.Cell
			for _, s := range ourselvesAnd(e, best) {
				cells = append(cells, stage.Cell{Name: heldCase, System: s.Info().Name, Run: heldCell(e, s, held)})
			}
			return cells
		},
		Targets: []report.Target{{
			What: "last minute against the first", Of: report.Ref{Case: heldCase, System: systems.Signalbox, Value: "ratio"}, AtLeast: 0.95, Unit: "of the rate",
		}},
	}
}

func heldCell(e *stage.Env, s systems.System, duration time.Duration) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) (err error) {
		d, err := e.Open(ctx, s)
		if err != nil {
			return err
		}
		defer d.Close()
		service := stage.NewService(d, s, stage.SteadyProducers, 0)
		stop := stage.StartWorker(ctx, s, d, []string{systems.DefaultSubscription}, service.Handle)
		defer func() { err = errors.Join(err, stop()) }()
		if err := service.First(ctx, &service.Handled); err != nil {
			return err
		}
		held, err := pgx.Connect(ctx, d.URL)
		if err != nil {
			return err
		}
		defer held.Close(ctx)
		if _, err := held.Exec(ctx, `begin isolation level repeatable read; select from public.orders limit 1`); err != nil {
			return err
		}
		return service.While(ctx, func() error {
			part := min(time.Minute, duration/4)
			m.Begin()
			first, err := service.Observe(ctx, part)
			if err != nil {
				return err
			}
			if err := stage.Pause(ctx, duration-2*part); err != nil {
				return err
			}
			last, err := service.Observe(ctx, part)
			m.End()
			if err != nil {
				return err
			}
			last.Report(m)
			m.Set("first", first.Out)
			m.Set("last", last.Out)
			m.Set("ratio", last.Out/first.Out)
			return sizes(ctx, d, m, service.Committed.Load())
		})
	}
}

// sizes sets those of the database.
func sizes(ctx context.Context, d *stage.Database, m *stage.Measurement, events int64) error {
	var tables, indexes float64
	err := d.Pool.QueryRow(ctx, `
		select sum(pg_table_size(c.oid)), sum(pg_indexes_size(c.oid))
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema')`).Scan(&tables, &indexes)
	m.Set("tables", tables/(1<<20))
	m.Set("indexes", indexes/(1<<20))
	m.Set("bytes", (tables+indexes)/float64(events))
	return err
}
