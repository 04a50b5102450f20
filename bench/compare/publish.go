package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

// Variants of publishing: who publishes what, and who listens.
const (
	withoutTrigger = "signalbox, doorbell off"
	alwaysNotify   = "signalbox, NOTIFY in each transaction"
	withoutWorker  = "signalbox, no worker"
	plainRow       = "plain row"
)

func publishCost() stage.Scenario {
	s := stage.Scenario{
		Scenario: report.Scenario{
			Number: 1,
			Title:  "Publish cost",
			Method: `Producers commit one domain row and one event in each transaction, four round trips, as fast as they can, while a
worker of the system handles them in the same process, on the same cores. "No worker" and "plain row" have nobody who handles:
the plain row goes into a table with a primary key and the event's columns (id, topic, key, payload, created_at), and no other
index. "NOTIFY in each transaction" replaces the doorbell by a trigger that always notifies. Times are those of a transaction. What it costs the processors, of the
server and of producers and worker, is theirs together: two cores have 2,000,000 µs a second.`,
			Columns: append([]report.Column{{Key: "rate", Title: "transactions/s"}, {Key: "p50", Title: "p50 ms"}, {Key: "p99", Title: "p99 ms"}},
				stage.CostColumns("tx")...),
		},
		Cells: func(e *stage.Env) []stage.Cell {
			var cells []stage.Cell
			for _, producers := range []int{1, 8, 32} {
				add := func(name string, run func(ctx context.Context, m *stage.Measurement) error) {
					cells = append(cells, stage.Cell{Name: producersCase(producers), System: name, Run: run})
				}
				ours := e.Systems[0]
				add(plainRow, publishCell(e, ours, producers, stage.PublishPlain, "", false))
				add(withoutWorker, publishCell(e, ours, producers, stage.PublishBy(ours), "", false))
				add(ours.Info().Name, publishCell(e, ours, producers, stage.PublishBy(ours), "", true))
				add(withoutTrigger, publishCell(e, ours, producers, stage.PublishBy(ours), `alter table outbox.events disable trigger doorbell`, true))
				add(alwaysNotify, publishCell(e, ours, producers, stage.PublishBy(ours), alwaysNotifySQL, true))
				for _, peer := range others(e, best) {
					add(peer.Info().Name, publishCell(e, peer, producers, stage.PublishBy(peer), "", true))
				}
			}
			return cells
		},
	}
	for _, producers := range []int{1, 8, 32} {
		name := producersCase(producers)
		rate := func(system string) report.Ref { return report.Ref{Case: name, System: system, Value: "rate"} }
		add := func(what, of, against string, atLeast float64) {
			s.Targets = append(s.Targets, report.Target{
				What: name + ": " + what, Of: rate(of), Against: []report.Ref{rate(against)}, AtLeast: atLeast, Unit: "of the rate",
			})
		}
		add("(a) the doorbell, against none", systems.Signalbox, withoutTrigger, 0.95)
		add("(b) an event that nobody handles, against a plain row", withoutWorker, plainRow, 0.90)
		add("(c) an event that is delivered, against a plain row", systems.Signalbox, plainRow, 0.70)
		add("(d) the doorbell, against NOTIFY in each transaction", systems.Signalbox, alwaysNotify, 2)
	}
	return s
}

func producersCase(n int) string {
	if n == 1 {
		return "1 producer"
	}
	return fmt.Sprintf("%d producers", n)
}

const alwaysNotifySQL = `
alter table outbox.events disable trigger doorbell;
create function public.always_notify() returns trigger language plpgsql as $$
begin
    perform pg_notify('new_signals', '');
    return null;
end
$$;
create trigger always_notify after insert on outbox.events for each statement execute function public.always_notify()`

// publishCell measures transactions of a kind, in a database that was changed first.
func publishCell(e *stage.Env, s systems.System, producers int, publish stage.PublishFunc, change string, working bool) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) (err error) {
		d, err := e.Open(ctx, s)
		if err != nil {
			return err
		}
		defer d.Close()
		if _, err := d.Pool.Exec(ctx, change); err != nil {
			return err
		}
		t := &stage.Traffic{Pool: d.Pool, Publish: publish, Producers: producers}
		var handled atomic.Int64
		if working {
			stop := stage.StartWorker(ctx, s, d, []string{systems.DefaultSubscription}, func(context.Context, []byte) error {
				handled.Add(1)
				return nil
			})
			defer func() { err = errors.Join(err, stop()) }()
			if err := t.First(ctx, &handled); err != nil {
				return err
			}
		}
		return t.While(ctx, func() error {
			if err := stage.Pause(ctx, min(time.Second, e.Duration/8)); err != nil {
				return err
			}
			took := measure.NewLatencies()
			t.Took.Store(took)
			spent, err := e.Costs(ctx)
			if err != nil {
				return err
			}
			before, start := t.Committed.Load(), time.Now()
			m.Begin()
			if err := stage.Pause(ctx, e.Duration/3); err != nil {
				return err
			}
			m.End()
			n := float64(t.Committed.Load() - before)
			m.Set("rate", n/time.Since(start).Seconds())
			m.Set("p50", took.Milliseconds(50))
			m.Set("p99", took.Milliseconds(99))
			return e.Cost(ctx, m, spent, n)
		})
	}
}
