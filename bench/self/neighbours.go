package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/worker"
)

const (
	amongThemselves = "fast ones alone"
	besideBadOnes   = "beside a slow and a failing one"
)

func neighbours() stage.Scenario {
	of := func(name, value string) report.Ref {
		return report.Ref{Case: name, System: systems.Signalbox, Value: value}
	}
	return stage.Scenario{
		Scenario: report.Scenario{
			Number: 21,
			Title:  "Neighbours",
			Method: `One worker has four subscriptions that see everything, and 200 events a second arrive. Then there are two more, of which one takes a second for each
call, so that it falls behind, and the other one always fails. Latency is that of the four.`,
			Columns: []report.Column{{Key: "p50", Title: "p50 ms"}, {Key: "p99", Title: "p99 ms"}},
		},
		Cells: func(e *stage.Env) []stage.Cell {
			return []stage.Cell{
				{Name: amongThemselves, System: systems.Signalbox, Run: neighboursCell(e, false)},
				{Name: besideBadOnes, System: systems.Signalbox, Run: neighboursCell(e, true)},
			}
		},
		Targets: []report.Target{{
			What: besideBadOnes + ": p99, against them alone", Of: of(besideBadOnes, "p99"), Against: []report.Ref{of(amongThemselves, "p99")}, AtMost: 1.2,
		}},
	}
}

func neighboursCell(e *stage.Env, bad bool) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) (err error) {
		ours := e.Systems[0]
		d, err := e.Open(ctx, ours)
		if err != nil {
			return err
		}
		defer d.Close()
		service := stage.NewService(d, ours, 8, 200)
		w, err := worker.New(d.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		s := func(name string) worker.Subscription {
			return worker.Subscription{Name: name, Topics: []string{systems.Topic}}
		}
		for i := range 4 {
			err = errors.Join(err, worker.Handle(w, s(fmt.Sprintf("fast-%d", i)), func(ctx context.Context, e *effectEvent) error { return service.Handle(ctx, e.Payload) }))
		}
		if bad {
			err = errors.Join(err,
				worker.HandleBatch(w, s("slow"), func(ctx context.Context, _ []*effectEvent) error { return sleep(ctx, time.Second) }),
				worker.Handle(w, s("failing"), func(context.Context, *effectEvent) error { return errAway }))
		}
		if err != nil {
			return err
		}
		stop := running(ctx, w)
		defer func() { err = errors.Join(err, stop()) }()
		if err := service.First(ctx, &service.Handled); err != nil {
			return err
		}
		return service.While(ctx, func() error {
			if err := stage.Pause(ctx, warmUp(e)); err != nil {
				return err
			}
			m.Begin()
			defer m.End()
			span, err := service.Observe(ctx, e.Duration)
			if err == nil {
				span.Report(m)
			}
			return err
		})
	}
}
