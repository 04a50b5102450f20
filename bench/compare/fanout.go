package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

var fanouts = []int{1, 3, 10}

func subscriptionsCase(n int) string {
	if n == 1 {
		return "1 subscription"
	}
	return fmt.Sprintf("%d subscriptions", n)
}

func subscriptionNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("bench-%d", i)
	}
	return names
}

func fanOut() stage.Scenario {
	ours := func(subscriptions int, value string) report.Ref {
		return report.Ref{Case: subscriptionsCase(subscriptions), System: systems.Signalbox, Value: value}
	}
	return stage.Scenario{
		Scenario: report.Scenario{
			Number: 5,
			Title:  "Fan-out",
			Method: `Each event goes to every subscription. Published is by 8 producers, one domain row and one event in each transaction: with
the subscriptions there and their worker stopped, which is what a subscription costs a publisher, and beside that worker, which needs the same cores.
Deliveries are those of all subscriptions together, in the drain of a backlog by one process: events times subscriptions are the same for all.
Systems that cannot do this are left out; the others run at their
best settings.`,
			Columns: []report.Column{
				{Key: "deliveries", Title: "deliveries/s in the drain"}, {Key: "alone", Title: "published/s, worker stopped"}, {Key: "beside", Title: "published/s beside the worker"},
			},
		},
		Cells: func(e *stage.Env) []stage.Cell {
			var cells []stage.Cell
			for _, n := range fanouts {
				for _, s := range ourselvesAnd(e, best) {
					if s.Info().Fanout {
						cells = append(cells, stage.Cell{Name: subscriptionsCase(n), System: s.Info().Name, Run: fanoutCell(e, s, n)})
					}
				}
			}
			return cells
		},
		Targets: []report.Target{
			{
				What: "publishing to 10 subscriptions, against 1, workers stopped", Of: ours(10, "alone"), Against: []report.Ref{ours(1, "alone")},
				AtLeast: 0.95, Unit: "of the rate",
			},
			{
				What: "publishing to 10 subscriptions, against 1, beside their worker", Of: ours(10, "beside"), Against: []report.Ref{ours(1, "beside")},
				AtLeast: 0.95, Unit: "of the rate",
			},
			{What: "10 subscriptions: deliveries in the drain", Of: ours(10, "deliveries"), AtLeast: 300_000, Unit: "/s"},
		},
	}
}

func fanoutCell(e *stage.Env, s systems.System, subscriptions int) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		if err := fanoutPublish(ctx, e, m, s, subscriptions); err != nil {
			return err
		}
		n := max(1, e.Backlog(s.Info().Rate)/int64(subscriptions))
		d, err := e.Filled(ctx, s, n)
		if err != nil {
			return err
		}
		defer d.Close()
		drained := &stage.Measurement{Sample: report.Sample{Values: map[string]float64{}}}
		if err := e.Drained(ctx, drained, d, s, 1, stage.Work{Subscriptions: subscriptionNames(subscriptions)}, n*int64(subscriptions)); err != nil {
			return err
		}
		m.Set("deliveries", drained.Sample.Values["rate"])
		return nil
	}
}

// fanoutPublish measures publishing beside a worker, and then without it.
func fanoutPublish(ctx context.Context, e *stage.Env, m *stage.Measurement, s systems.System, subscriptions int) error {
	d, err := e.Open(ctx, s)
	if err != nil {
		return err
	}
	defer d.Close()
	t := &stage.Traffic{Pool: d.Pool, Publish: stage.PublishBy(s), Producers: 8}
	var handled atomic.Int64
	stop := stage.StartWorker(ctx, s, d, subscriptionNames(subscriptions), func(context.Context, []byte) error {
		handled.Add(1)
		return nil
	})
	measure := func(key string) error {
		return t.While(ctx, func() error {
			if err := stage.Pause(ctx, min(time.Second, e.Duration/8)); err != nil {
				return err
			}
			before, start := t.Committed.Load(), time.Now()
			if err := stage.Pause(ctx, e.Duration/3); err != nil {
				return err
			}
			m.Set(key, float64(t.Committed.Load()-before)/time.Since(start).Seconds())
			return nil
		})
	}
	if err := t.First(ctx, &handled); err != nil {
		return errors.Join(err, stop())
	}
	m.Begin()
	if err := errors.Join(measure("beside"), stop()); err != nil {
		return err
	}
	err = measure("alone")
	m.End()
	return err
}
