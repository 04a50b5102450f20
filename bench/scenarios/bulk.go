package scenarios

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/systems"
)

const (
	bulkPublishers = 2
	bothAtOnce     = "publishing and delivering"
	publishingOnly = "publishing alone"
	rawInsert      = "raw insert"
)

func bulk() scenario {
	ours := func(value string) report.Ref {
		return report.Ref{Case: bothAtOnce, System: systems.Signalbox, Value: value}
	}
	return scenario{
		Scenario: report.Scenario{
			Number: 4,
			Title:  "Bulk",
			Method: `Two publishers commit transactions of 1,000 events each, through the fastest way of each system, while a worker in the
same process handles them. Alone, nobody handles them. "Raw insert" copies the same rows into Signalbox's table with pgx and nothing else.`,
			Columns: append([]report.Column{{Key: "out", Title: "out/s"}, {Key: "in", Title: "in/s"}, {Key: "backlog", Title: "backlog"}},
				costColumns("event")...),
		},
		cells: func(e *env) []cell {
			cells := []cell{
				{publishingOnly, rawInsert, e.bulkCell(e.Systems[0], copyRaw, false)},
				{publishingOnly, systems.Signalbox, e.bulkCell(e.Systems[0], e.Systems[0].Publish, false)},
				{bothAtOnce, systems.Signalbox, e.bulkCell(e.Systems[0], e.Systems[0].Publish, true)},
			}
			for _, s := range e.peers(best) {
				cells = append(cells, cell{bothAtOnce, s.Info().Name, e.bulkCell(s, s.Publish, true)})
			}
			return cells
		},
		targets: []report.Target{
			{What: "in, both at once", Of: ours("in"), AtLeast: 100_000, Unit: "events/s"},
			{What: "out, both at once", Of: ours("out"), AtLeast: 100_000, Unit: "events/s"},
		},
	}
}

// copyRaw is the least that puts events into Signalbox's table.
func copyRaw(ctx context.Context, tx pgx.Tx, events []systems.Event) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"outbox", "events"}, []string{"topic", "key", "payload"},
		pgx.CopyFromSlice(len(events), func(i int) ([]any, error) { return []any{systems.Topic, events[i].Key, events[i].Payload}, nil }))
	return err
}

func (e *env) bulkCell(s systems.System, publish bulkFunc, working bool) func(context.Context, *measurement) error {
	return func(ctx context.Context, m *measurement) (err error) {
		d, err := e.open(ctx, s)
		if err != nil {
			return err
		}
		defer d.close()
		var committed, handled atomic.Int64
		list := events(0, batch)
		if working {
			stop := startWorker(ctx, s, d, []string{systems.DefaultSubscription}, func(context.Context, []byte) error {
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
					err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error { return publish(ctx, tx, list) })
					if err != nil {
						return err
					}
					committed.Add(batch)
				}
				return nil
			})
		}
		if working {
			err = await(publishing, time.Minute, "the first events are handled", func() bool { return handled.Load() > 0 })
		}
		if err == nil {
			err = pause(publishing, min(time.Second, e.Duration/8))
		}
		var spent costs
		if err == nil {
			spent, err = e.costs(ctx)
		}
		if err == nil {
			in, out, start := committed.Load(), handled.Load(), time.Now()
			m.begin()
			err = pause(publishing, e.Duration/3)
			m.end()
			seconds := time.Since(start).Seconds()
			n := float64(committed.Load() - in)
			m.set("in", n/seconds)
			if working {
				m.set("out", float64(handled.Load()-out)/seconds)
				m.set("backlog", float64(max(0, committed.Load()-handled.Load())))
			}
			if err == nil {
				err = e.cost(ctx, m, spent, n)
			}
		}
		cancel()
		if failed := group.Wait(); failed != nil {
			return failed // and not that it ended the pause
		}
		return err
	}
}
