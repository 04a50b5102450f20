package scenarios

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/outbox"
)

const (
	drainedCase = "drain"
	hugeCase    = "one transaction"
)

func memory() scenario {
	peak := func(name string) report.Ref {
		return report.Ref{Case: name, System: systems.Signalbox, Value: "peak"}
	}
	return scenario{
		Scenario: report.Scenario{
			Number: 10,
			Title:  "Memory",
			Method: `The most memory that one worker process had resident (VmHWM) while it drained a backlog with a handler that does nothing, and while
it was idle and then handled all events of one transaction. Slow systems get fewer events.`,
			Columns: []report.Column{{Key: "peak", Title: "peak MiB"}, {Key: "events", Title: "events"}},
		},
		cells: func(e *env) []cell {
			cells := []cell{
				{drainedCase, systems.Signalbox, e.memoryCell(e.Systems[0])},
				{hugeCase, systems.Signalbox, e.hugeTransaction},
			}
			for _, s := range e.peers(best) {
				cells = append(cells, cell{drainedCase, s.Info().Name, e.memoryCell(s)})
			}
			return cells
		},
		targets: []report.Target{
			{What: "drain", Of: peak(drainedCase), AtMost: 80, Unit: "MiB"},
			{What: "one transaction", Of: peak(hugeCase), AtMost: 80, Unit: "MiB"},
		},
	}
}

func (e *env) memoryCell(s systems.System) func(context.Context, *measurement) error {
	return func(ctx context.Context, m *measurement) error {
		n := e.backlog(s.Info().Rate)
		d, err := e.filled(ctx, s, n)
		if err != nil {
			return err
		}
		defer d.close()
		return e.peak(ctx, m, d, s, n, func() error { return nil })
	}
}

// peak sets the peak memory of a process that handles n events, which there are once meanwhile has returned.
func (e *env) peak(ctx context.Context, m *measurement, d *database, s systems.System, n int64, meanwhile func() error) error {
	p, err := e.startProcess(ctx, d, s, work{}, nil)
	if err != nil {
		return err
	}
	defer p.kill()
	m.begin()
	if err := p.begin(); err != nil {
		return err
	}
	if err := meanwhile(); err != nil {
		return err
	}
	if _, err := (crew{p}).handle(ctx, n); err != nil {
		return err
	}
	m.end()
	peak, err := measure.PeakMemory(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	m.set("peak", peak)
	m.set("events", float64(n))
	return p.stop()
}

func (e *env) hugeTransaction(ctx context.Context, m *measurement) error {
	ours, n := e.Systems[0], int64(e.Events)
	d, err := e.open(ctx, ours)
	if err != nil {
		return err
	}
	defer d.close()
	return e.peak(ctx, m, d, ours, n, func() error {
		return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
			published, err := outbox.PublishFrom(ctx, tx, func(yield func(outbox.Event, error) bool) {
				for i := range n {
					if next := event(i); !yield(outbox.Event{Topic: systems.Topic, Key: next.Key, Payload: next.Payload}, nil) {
						return
					}
				}
			})
			if err == nil && published != n {
				err = fmt.Errorf("%d events were published of %d", published, n)
			}
			return err
		})
	})
}
