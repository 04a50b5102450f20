package main

import (
	"context"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

func scale() stage.Scenario {
	return stage.Scenario{
		Scenario: report.Scenario{
			Number: 9,
			Title:  "Scale",
			Method: `A backlog is drained by handlers that sleep, in one, two and four processes. The rate cannot be more than handlers at once ÷ sleep, times
the processes, except where subscribers of a group take turns. Handlers at once, in each process, differ: see the systems' settings.`,
			Columns: []report.Column{{Key: "rate", Title: "events/s"}, {Key: "bound", Title: "at most"}, {Key: "events", Title: "events"}},
		},
		Cells: func(e *stage.Env) []stage.Cell {
			var cells []stage.Cell
			for _, sleep := range []time.Duration{time.Millisecond, 20 * time.Millisecond} {
				for _, processes := range []int{1, 2, 4} {
					name := fmt.Sprintf("%v, %s", sleep, processesCase(processes))
					for _, s := range ourselvesAnd(e, best) {
						cells = append(cells, stage.Cell{Name: name, System: s.Info().Name, Run: scaleCell(e, s, processes, sleep)})
					}
				}
			}
			return cells
		},
	}
}

func scaleCell(e *stage.Env, s systems.System, processes int, sleep time.Duration) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		info := s.Info()
		bound := float64(info.Concurrency) / sleep.Seconds()
		if !info.TakesTurns {
			bound *= float64(processes)
		}
		n := e.Backlog(min(info.Rate, bound))
		d, err := e.Filled(ctx, s, n)
		if err != nil {
			return err
		}
		defer d.Close()
		m.Set("bound", bound)
		return e.Drained(ctx, m, d, s, processes, stage.Work{Sleep: sleep}, n)
	}
}
