package scenarios

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/systems"
)

const heldCase = "full speed"

func heldSnapshot() scenario {
	return scenario{
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
		once: true,
		cells: func(e *env) []cell {
			var cells []cell
			for _, s := range e.ourselvesAnd(best) {
				cells = append(cells, cell{heldCase, s.Info().Name, e.heldCell(s)})
			}
			return cells
		},
		targets: []report.Target{{
			What: "last minute against the first", Of: report.Ref{Case: heldCase, System: systems.Signalbox, Value: "ratio"}, AtLeast: 0.95, Unit: "of the rate",
		}},
	}
}

func (e *env) heldCell(s systems.System) func(context.Context, *measurement) error {
	return func(ctx context.Context, m *measurement) (err error) {
		d, err := e.open(ctx, s)
		if err != nil {
			return err
		}
		defer d.close()
		service := newService(d, s, steadyProducers, 0)
		stop := startWorker(ctx, s, d, []string{systems.DefaultSubscription}, service.handle)
		defer func() { err = errors.Join(err, stop()) }()
		if err := service.first(ctx, &service.handled); err != nil {
			return err
		}
		held, err := pgx.Connect(ctx, d.url)
		if err != nil {
			return err
		}
		defer held.Close(ctx)
		if _, err := held.Exec(ctx, `begin isolation level repeatable read; select from public.orders limit 1`); err != nil {
			return err
		}
		return service.while(ctx, func() error {
			part := min(time.Minute, e.Held/4)
			m.begin()
			first, err := service.observe(ctx, part)
			if err != nil {
				return err
			}
			if err := pause(ctx, e.Held-2*part); err != nil {
				return err
			}
			last, err := service.observe(ctx, part)
			m.end()
			if err != nil {
				return err
			}
			last.report(m)
			m.set("first", first.out)
			m.set("last", last.out)
			m.set("ratio", last.out/first.out)
			return d.sizes(ctx, m, service.committed.Load())
		})
	}
}

// sizes sets those of the database.
func (d *database) sizes(ctx context.Context, m *measurement, events int64) error {
	var tables, indexes float64
	err := d.pool.QueryRow(ctx, `
		select sum(pg_table_size(c.oid)), sum(pg_indexes_size(c.oid))
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema')`).Scan(&tables, &indexes)
	m.set("tables", tables/(1<<20))
	m.set("indexes", indexes/(1<<20))
	m.set("bytes", (tables+indexes)/float64(events))
	return err
}
