package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

const (
	bulkPublishers = 2
	bothAtOnce     = "publishing and delivering"
	publishingOnly = "publishing alone"
	rawInsert      = "raw insert"
)

func bulk() stage.Scenario {
	ours := func(value string) report.Ref {
		return report.Ref{Case: bothAtOnce, System: systems.Signalbox, Value: value}
	}
	return stage.Scenario{
		Scenario: report.Scenario{
			Number: 4,
			Title:  "Bulk",
			Method: `Two publishers commit transactions of 1,000 events each, through the fastest way of each system, while a worker in the
same process handles them. Alone, nobody handles them. "Raw insert" copies the same rows into Signalbox's table with pgx and nothing else.`,
			Columns: append([]report.Column{{Key: "out", Title: "out/s"}, {Key: "in", Title: "in/s"}, {Key: "backlog", Title: "backlog"}},
				stage.CostColumns("event")...),
		},
		Cells: func(e *stage.Env) []stage.Cell {
			cells := []stage.Cell{
				{Name: publishingOnly, System: rawInsert, Run: bulkCell(e, e.Systems[0], stage.CopyRaw, false)},
				{Name: publishingOnly, System: systems.Signalbox, Run: bulkCell(e, e.Systems[0], e.Systems[0].Publish, false)},
				{Name: bothAtOnce, System: systems.Signalbox, Run: bulkCell(e, e.Systems[0], e.Systems[0].Publish, true)},
			}
			for _, s := range others(e, best) {
				cells = append(cells, stage.Cell{Name: bothAtOnce, System: s.Info().Name, Run: bulkCell(e, s, s.Publish, true)})
			}
			return cells
		},
		Targets: []report.Target{
			{What: "in, both at once", Of: ours("in"), AtLeast: 100_000, Unit: "events/s"},
			{What: "out, both at once", Of: ours("out"), AtLeast: 100_000, Unit: "events/s"},
		},
	}
}

func bulkCell(e *stage.Env, s systems.System, publish stage.BulkFunc, working bool) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) (err error) {
		d, err := e.Open(ctx, s)
		if err != nil {
			return err
		}
		defer d.Close()
		var committed, handled atomic.Int64
		list := stage.Events(0, stage.Batch)
		if working {
			stop := stage.StartWorker(ctx, s, d, []string{systems.DefaultSubscription}, func(context.Context, []byte) error {
				handled.Add(1)
				return nil
			})
			defer func() { err = errors.Join(err, stop()) }()
		}
		publishing, cancel := context.WithCancel(ctx)
		defer cancel()
		group, publishing := errgroup.WithContext(publishing)
		for range bulkPublishers {
			group.Go(func() error {
				for publishing.Err() == nil {
					// Not cancelled in the middle: the measurement is over, and errors would be ours.
					err := pgx.BeginFunc(ctx, d.Pool, func(tx pgx.Tx) error { return publish(ctx, tx, list) })
					if err != nil {
						return err
					}
					committed.Add(stage.Batch)
				}
				return nil
			})
		}
		if working {
			err = stage.Await(publishing, time.Minute, "the first events are handled", func() bool { return handled.Load() > 0 })
		}
		if err == nil {
			err = stage.Pause(publishing, min(time.Second, e.Duration/8))
		}
		var spent stage.Costs
		if err == nil {
			spent, err = e.Costs(ctx)
		}
		if err == nil {
			in, out, start := committed.Load(), handled.Load(), time.Now()
			m.Begin()
			err = stage.Pause(publishing, e.Duration/3)
			m.End()
			seconds := time.Since(start).Seconds()
			n := float64(committed.Load() - in)
			m.Set("in", n/seconds)
			if working {
				m.Set("out", float64(handled.Load()-out)/seconds)
				m.Set("backlog", float64(max(0, committed.Load()-handled.Load())))
			}
			if err == nil {
				err = e.Cost(ctx, m, spent, n)
			}
		}
		cancel()
		if failed := group.Wait(); failed != nil {
			return failed // and not that it ended the pause
		}
		return err
	}
}
