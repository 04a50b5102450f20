package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/outbox"
)

const (
	drainedCase = "drain"
	hugeCase    = "one transaction"
)

func memory() stage.Scenario {
	peak := func(name string) report.Ref {
		return report.Ref{Case: name, System: systems.Signalbox, Value: "peak"}
	}
	return stage.Scenario{
		Scenario: report.Scenario{
			Number: 10,
			Title:  "Memory",
			Method: `The most memory that one worker process had resident (VmHWM) while it drained a backlog with a handler that does nothing, and while
it was idle and then handled all events of one transaction. Slow systems get fewer events.`,
			Columns: []report.Column{{Key: "peak", Title: "peak MiB"}, {Key: "events", Title: "events"}},
		},
		Cells: func(e *stage.Env) []stage.Cell {
			cells := []stage.Cell{
				{Name: drainedCase, System: systems.Signalbox, Run: memoryCell(e, e.Systems[0])},
				{Name: hugeCase, System: systems.Signalbox, Run: hugeTransaction(e)},
			}
			for _, s := range others(e, best) {
				cells = append(cells, stage.Cell{Name: drainedCase, System: s.Info().Name, Run: memoryCell(e, s)})
			}
			return cells
		},
		Targets: []report.Target{
			{What: "drain", Of: peak(drainedCase), AtMost: 80, Unit: "MiB"},
			{What: "one transaction", Of: peak(hugeCase), AtMost: 80, Unit: "MiB"},
		},
	}
}

func memoryCell(e *stage.Env, s systems.System) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		n := e.Backlog(s.Info().Rate)
		d, err := e.Filled(ctx, s, n)
		if err != nil {
			return err
		}
		defer d.Close()
		return peak(ctx, e, m, d, s, n, func() error { return nil })
	}
}

// peak sets the peak memory of a process that handles n events, which there are once meanwhile has returned.
func peak(ctx context.Context, e *stage.Env, m *stage.Measurement, d *stage.Database, s systems.System, n int64, meanwhile func() error) error {
	p, err := e.StartProcess(ctx, d, s, stage.Work{}, nil)
	if err != nil {
		return err
	}
	defer p.Kill()
	m.Begin()
	if err := p.Begin(); err != nil {
		return err
	}
	if err := meanwhile(); err != nil {
		return err
	}
	if _, err := (stage.Crew{p}).Handle(ctx, n); err != nil {
		return err
	}
	m.End()
	peak, err := measure.PeakMemory(p.Cmd.Process.Pid)
	if err != nil {
		return err
	}
	m.Set("peak", peak)
	m.Set("events", float64(n))
	return p.Stop()
}

func hugeTransaction(e *stage.Env) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		ours, n := e.Systems[0], int64(e.Events)
		d, err := e.Open(ctx, ours)
		if err != nil {
			return err
		}
		defer d.Close()
		return peak(ctx, e, m, d, ours, n, func() error {
			return pgx.BeginFunc(ctx, d.Pool, func(tx pgx.Tx) error {
				published, err := outbox.PublishFrom(ctx, tx, func(yield func(outbox.Event, error) bool) {
					for i := range n {
						if next := stage.Event(i); !yield(outbox.Event{Topic: systems.Topic, Key: next.Key, Payload: next.Payload}, nil) {
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
}
