package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

const fullSpeed = "full speed"

func rateCase(perSecond float64) string { return fmt.Sprintf("%g/s", perSecond) }

func steadyState() stage.Scenario {
	ours := func(name, value string) report.Ref {
		return report.Ref{Case: name, System: systems.Signalbox, Value: value}
	}
	s := stage.Scenario{
		Scenario: report.Scenario{
			Number: 2,
			Title:  "Steady state",
			Method: `16 producers and one worker in one process, as in a service: each transaction is one domain row and one event. Latency is
from just before the commit is sent to the start of the handler, by one clock. Backlog is what was committed and not handled at the end of the
measurement; where there is one, latency would grow with the duration. At fixed rates, the others run at their best settings.`,
			Columns: []report.Column{
				{Key: "p99", Title: "p99 ms"},
				{Key: "p50", Title: "p50 ms"},
				{Key: "p999", Title: "p99.9 ms"},
				{Key: "in", Title: "in/s"},
				{Key: "out", Title: "out/s"},
				{Key: "balance", Title: "out ÷ in"},
				{Key: "backlog", Title: "backlog"},
			},
		},
		Cells: func(e *stage.Env) []stage.Cell {
			var cells []stage.Cell
			for _, s := range e.Systems {
				cells = append(cells, stage.Cell{Name: fullSpeed, System: s.Info().Name, Run: steadyCell(e, s, 0)})
			}
			for _, perSecond := range []float64{10, 100, 1000} {
				for _, s := range ourselvesAnd(e, best) {
					cells = append(cells, stage.Cell{Name: rateCase(perSecond), System: s.Info().Name, Run: steadyCell(e, s, perSecond)})
				}
			}
			return cells
		},
		Targets: []report.Target{
			{What: "full speed: as much comes out as goes in", Of: ours(fullSpeed, "balance"), AtLeast: 0.99},
			{What: "full speed: backlog", Of: ours(fullSpeed, "backlog"), AtMost: 500, Unit: "events"},
			{What: "full speed: p50", Of: ours(fullSpeed, "p50"), AtMost: 5, Unit: "ms"},
			{What: "full speed: p99", Of: ours(fullSpeed, "p99"), AtMost: 30, Unit: "ms"},
		},
	}
	for _, perSecond := range []float64{10, 100} {
		name := rateCase(perSecond)
		s.Targets = append(s.Targets,
			report.Target{What: name + ": p50", Of: ours(name, "p50"), AtMost: 3, Unit: "ms"},
			report.Target{What: name + ": p99", Of: ours(name, "p99"), AtMost: 10, Unit: "ms"})
	}
	return s
}

func steadyCell(e *stage.Env, s systems.System, perSecond float64) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) (err error) {
		d, err := e.Open(ctx, s)
		if err != nil {
			return err
		}
		defer d.Close()
		service := stage.NewService(d, s, stage.SteadyProducers, perSecond)
		stop := stage.StartWorker(ctx, s, d, []string{systems.DefaultSubscription}, service.Handle)
		defer func() { err = errors.Join(err, stop()) }()
		if err := service.First(ctx, &service.Handled); err != nil {
			return err
		}
		return service.While(ctx, func() error {
			if err := stage.Pause(ctx, min(2*time.Second, e.Duration/4)); err != nil {
				return err
			}
			m.Begin()
			span, err := service.Observe(ctx, e.Duration)
			m.End()
			if err != nil {
				return err
			}
			span.Report(m)
			return nil
		})
	}
}
