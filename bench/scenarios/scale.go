package scenarios

import (
	"context"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/systems"
)

func scale() scenario {
	return scenario{
		Scenario: report.Scenario{
			Number: 9,
			Title:  "Scale",
			Method: `A backlog is drained by handlers that sleep, in one, two and four processes. The rate cannot be more than handlers at once ÷ sleep, times
the processes, except where subscribers of a group take turns. Handlers at once, in each process, differ: see the systems' settings.`,
			Columns: []report.Column{{Key: "rate", Title: "events/s"}, {Key: "bound", Title: "at most"}, {Key: "events", Title: "events"}},
		},
		cells: func(e *env) []cell {
			var cells []cell
			for _, sleep := range []time.Duration{time.Millisecond, 20 * time.Millisecond} {
				for _, processes := range []int{1, 2, 4} {
					name := fmt.Sprintf("%v, %s", sleep, processesCase(processes))
					for _, s := range e.ourselvesAnd(best) {
						cells = append(cells, cell{name, s.Info().Name, e.scaleCell(s, processes, sleep)})
					}
				}
			}
			return cells
		},
	}
}

func (e *env) scaleCell(s systems.System, processes int, sleep time.Duration) func(context.Context, *measurement) error {
	return func(ctx context.Context, m *measurement) error {
		info := s.Info()
		bound := float64(info.Concurrency) / sleep.Seconds()
		if !info.TakesTurns {
			bound *= float64(processes)
		}
		n := e.backlog(min(info.Rate, bound))
		d, err := e.filled(ctx, s, n)
		if err != nil {
			return err
		}
		defer d.close()
		m.set("bound", bound)
		return e.drained(ctx, m, d, s, processes, work{sleep: sleep}, n)
	}
}
