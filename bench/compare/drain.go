package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

const rawSelect = "raw select"

func drain() stage.Scenario {
	rate := func(system string) report.Ref {
		return report.Ref{Case: processesCase(1), System: system, Value: "rate"}
	}
	return stage.Scenario{
		Scenario: report.Scenario{
			Number: 3,
			Title:  "Drain",
			Method: `A backlog, vacuumed and analyzed, is handled by one worker process, and by two (the others at their best settings). Handlers do nothing. The rate is
from when the first events were handled to the last one, without those first; "start" is the time before, from telling idle processes to begin.
Slow systems get fewer events: rates are compared. "Raw select"
reads the columns of Signalbox's events once, in no order, over one connection of pgx, and scans them into Go variables: about the most that
any reader in Go could do.`,
			Columns: append([]report.Column{{Key: "rate", Title: "events/s"}, {Key: "start", Title: "start ms"}, {Key: "events", Title: "events"}},
				stage.CostColumns("event")...),
		},
		Cells: func(e *stage.Env) []stage.Cell {
			cells := []stage.Cell{{Name: processesCase(1), System: rawSelect, Run: rawSelectCell(e)}}
			for _, s := range e.Systems {
				cells = append(cells, stage.Cell{Name: processesCase(1), System: s.Info().Name, Run: drainCell(e, s, 1)})
			}
			for _, s := range ourselvesAnd(e, best) {
				cells = append(cells, stage.Cell{Name: processesCase(2), System: s.Info().Name, Run: drainCell(e, s, 2)})
			}
			return cells
		},
		Targets: []report.Target{
			{What: "one process", Of: rate(systems.Signalbox), AtLeast: 300_000, Unit: "events/s"},
			{
				What: "against River's best", Of: rate(systems.Signalbox), AtLeast: 10, Unit: "times the rate",
				Against: []report.Ref{rate("river"), rate("river-best")},
			},
			{
				What: "against watermill-sql's best", Of: rate(systems.Signalbox), AtLeast: 3, Unit: "times the rate",
				Against: []report.Ref{rate("watermill"), rate("watermill-best")},
			},
			{What: "against the raw select", Of: rate(systems.Signalbox), Against: []report.Ref{rate(rawSelect)}, AtLeast: 0.6, Unit: "of the rate"},
		},
	}
}

func processesCase(n int) string {
	if n == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", n)
}

func drainCell(e *stage.Env, s systems.System, processes int) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		n := e.Backlog(s.Info().Rate)
		d, err := e.Filled(ctx, s, n)
		if err != nil {
			return err
		}
		defer d.Close()
		return e.Drained(ctx, m, d, s, processes, stage.Work{}, n)
	}
}

// rawSelectCell reads all events over one connection.
func rawSelectCell(e *stage.Env) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		ours, n := e.Systems[0], int64(e.Events)
		d, err := e.Filled(ctx, ours, n)
		if err != nil {
			return err
		}
		defer d.Close()
		conn, err := pgx.Connect(ctx, d.URL)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		spent, err := e.Costs(ctx)
		if err != nil {
			return err
		}
		m.Begin()
		start := time.Now()
		rows, _ := conn.Query(ctx, `select e.id, e.topic, e.key, e.payload, e.headers, e.published_at from outbox.events e`)
		var (
			id               int64
			topic, key       string
			payload, headers []byte
			at               time.Time
			read             int64
		)
		_, err = pgx.ForEachRow(rows, []any{&id, &topic, &key, &payload, &headers, &at}, func() error { read++; return nil })
		took := time.Since(start)
		m.End()
		if err != nil {
			return err
		}
		if read != n {
			return fmt.Errorf("%d events were read of %d", read, n)
		}
		m.Set("rate", float64(n)/took.Seconds())
		m.Set("events", float64(n))
		return e.Cost(ctx, m, spent, float64(n))
	}
}
