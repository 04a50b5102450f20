package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/worker"
)

const (
	flakyCase       = "one call in twenty is answered"
	batchCallsCase  = "an outage, and 10,000 events in batches"
	outagePrefix    = "an outage, "
	batchEvents     = 10_000
	batchOutage     = 5 * time.Second
	batchWork       = 500 * time.Microsecond // of a call, for each event
	answersOfTwenty = 20
)

func outages(s scale) stage.Scenario {
	sc := stage.Scenario{
		Scenario: report.Scenario{
			Number: 16,
			Title:  "Outages",
			Method: `What the handlers call is away for ten minutes, or answers one call in twenty, while 500 events a second arrive; all else is the default.
Attempts are the most that an event has counted when that is over, and rows all deliveries, at most. The lag is drained when all is handled that was published before the
first call that succeeded again. Lines are those of the log, in the busiest second. The batches, of HandleBatch, are of a backlog, and what they call is away when it is begun; a call
is one of the handler, and is compared with those of a run without that outage. Where it is away for one of two topics, each with 250 events a second, or for a tenant that has 475
of them, latency is that of the others while that lasts, from the commit to the handler, beside that of a run in which the subscription does not have what is away; rows, and
those of them that have a copy of their event, are counted at the end of it.`,
			Columns: []report.Column{
				{Key: "drained", Title: "drained after s"},
				{Key: "back", Title: "first success after s"},
				{Key: "attempts", Title: "attempts counted"},
				{Key: "rows", Title: "rows"},
				{Key: "lines", Title: "lines/s"},
				{Key: "calls", Title: "calls"},
				{Key: "calls without", Title: "without: calls"},
				{Key: "calls part", Title: "calls: of those without"},
				{Key: "p99", Title: "p99 ms"},
				{Key: "p99 without", Title: "without: p99 ms"},
				{Key: "p99 part", Title: "p99: of that without"},
				{Key: "stall", Title: "stall ms"},
				{Key: "copies", Title: "copies"},
				{Key: "megabytes", Title: "MB of rows"},
				{Key: "dead", Title: "dead letters"},
			},
		},
		Cells: func(e *stage.Env) []stage.Cell {
			cell := func(name string, run func(ctx context.Context, m *stage.Measurement) error) stage.Cell {
				return stage.Cell{Name: name, System: systems.Signalbox, Run: run}
			}
			var cells []stage.Cell
			for _, form := range []string{single, oneByOne, together, bySlice} {
				cells = append(cells, cell(outagePrefix+form, func(ctx context.Context, m *stage.Measurement) error { return outage(ctx, e, m, s, form, 0) }))
			}
			for _, c := range partsAway() {
				cells = append(cells, cell(c.name, func(ctx context.Context, m *stage.Measurement) error { return c.compare(ctx, e, m, s) }))
			}
			return append(cells,
				cell(flakyCase, func(ctx context.Context, m *stage.Measurement) error {
					return outage(ctx, e, m, s, single, answersOfTwenty)
				}),
				cell(batchCallsCase, func(ctx context.Context, m *stage.Measurement) error { return batchCalls(ctx, e, m) }))
		},
	}
	target := func(name, what, value string, most float64, unit string) {
		sc.Targets = append(sc.Targets, report.Target{
			What: name + ": " + what, Of: report.Ref{Case: name, System: systems.Signalbox, Value: value}, AtMost: most, Unit: unit,
		})
	}
	for _, form := range []string{single, oneByOne, together, bySlice} {
		name := outagePrefix + form
		target(name, "dead letters", "dead", none, "")
		target(name, "attempts counted", "attempts", 1, "")
		target(name, "drained", "drained", 30, "s after the first success")
	}
	target(flakyCase, "dead letters", "dead", none, "")
	for _, c := range partsAway() {
		target(c.name, "p99 of the others", "p99 part", 1.5, "of that without")
		for _, t := range c.most {
			target(c.name, t.what, t.value, t.most, t.unit)
		}
		target(c.name, "dead letters", "dead", none, "")
	}
	target(batchCallsCase, "calls", "calls part", 3, "of those without")
	return sc
}

var errAway = errors.New("connection refused")

// An agency is what handlers call: it may be away, or answer few calls.
type agency struct {
	away  atomic.Bool
	few   int64 // of so many calls it answers one while it is away; 0 for none
	calls atomic.Int64
	first atomic.Int64 // when it answered for the first time after it was away, in ns
}

func (a *agency) call() error {
	n := a.calls.Add(1)
	if a.away.Load() {
		if a.few == 0 || n%a.few != 0 {
			return errAway
		}
		return nil
	}
	a.first.CompareAndSwap(0, time.Now().UnixNano())
	return nil
}

// outage measures what is left of an outage, and how long it takes to catch up.
func outage(ctx context.Context, e *stage.Env, m *stage.Measurement, s scale, form string, few int64) (err error) {
	ours := e.Systems[0]
	d, err := e.Open(ctx, ours)
	if err != nil {
		return err
	}
	defer d.Close()
	o, a, log := newOthers(d, ours), &agency{few: few}, newLineCounter()
	w, err := worker.New(d.Pool, worker.Config{Logger: slog.New(log)})
	if err != nil {
		return err
	}
	err = register(w, form, worker.Subscription{Name: systems.DefaultSubscription, Topics: []string{systems.Topic}}, func(ctx context.Context, e *effectEvent) error {
		if err := a.call(); err != nil {
			return err
		}
		return o.handle(ctx, e.Payload)
	})
	if err != nil {
		return err
	}
	stop := running(ctx, w)
	defer func() { err = errors.Join(err, stop()) }()
	if err := o.First(ctx, &o.Handled); err != nil {
		return err
	}
	log.reset() // it has said what it says when it begins
	m.Begin()
	defer m.End()
	err = o.While(ctx, func() error {
		if err := stage.Pause(ctx, warmUp(e)); err != nil {
			return err
		}
		rows := watchRows(ctx, d, systems.Topic, false)
		a.away.Store(true)
		if err := stage.Pause(ctx, s.time(10*time.Minute, time.Second)); err != nil {
			return errors.Join(err, rows.stop())
		}
		var attempts int64
		if err := d.Pool.QueryRow(ctx, `select coalesce(max(attempt), 0) from outbox.deliveries`).Scan(&attempts); err != nil {
			return errors.Join(err, rows.stop())
		}
		a.first.Store(0)
		a.away.Store(false)
		over := time.Now()
		err := stage.Await(ctx, time.Minute, "a call succeeds again", func() bool { return a.first.Load() != 0 })
		if err != nil {
			return errors.Join(err, rows.stop())
		}
		first, published := time.Unix(0, a.first.Load()), o.Next.Load()
		err = stage.Await(ctx, 10*time.Minute, "the lag is drained", func() bool { return o.handledUpTo(published) })
		m.Set("drained", time.Since(first).Seconds())
		m.Set("back", first.Sub(over).Seconds())
		m.Set("attempts", float64(attempts))
		m.Set("lines", float64(log.most()))
		err = errors.Join(err, rows.stop())
		m.Set("rows", float64(rows.rows))
		return err
	})
	if err == nil {
		err = o.finish(ctx)
	}
	if err != nil {
		return err
	}
	dead, err := leftovers(ctx, d)
	m.Set("dead", float64(dead))
	return err
}

// handledUpTo reports whether all of the first n events are handled.
func (o *others) handledUpTo(n int64) bool {
	for ; o.upTo < n; o.upTo++ {
		if !o.distinct.Has(o.upTo) {
			return false
		}
	}
	return true
}

// batchCalls compares how often HandleBatch calls its handler with an outage and without.
func batchCalls(ctx context.Context, e *stage.Env, m *stage.Measurement) error {
	m.Begin()
	defer m.End()
	with, err := countCalls(ctx, e, m, min(batchOutage, e.Duration))
	if err != nil {
		return err
	}
	without, err := countCalls(ctx, e, m, 0)
	if err != nil {
		return err
	}
	m.Set("calls", float64(with))
	m.Set("calls without", float64(without))
	m.Set("calls part", float64(with)/float64(without))
	return nil
}

// countCalls drains a backlog in batches, and counts the calls that takes.
func countCalls(ctx context.Context, e *stage.Env, m *stage.Measurement, away time.Duration) (calls int64, err error) {
	n := int64(min(e.Events, batchEvents))
	d, err := e.Filled(ctx, e.Systems[0], n)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	w, err := worker.New(d.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	var a agency
	a.away.Store(away > 0)
	seen := stage.NewDistinct(n)
	err = worker.HandleBatch(w, worker.Subscription{Name: systems.DefaultSubscription, Topics: []string{systems.Topic}}, func(ctx context.Context, events []*effectEvent) error {
		if err := a.call(); err != nil {
			return err
		}
		if err := sleep(ctx, time.Duration(len(events))*batchWork); err != nil {
			return err
		}
		for _, event := range events {
			seen.Add(stage.Sequence(event.Payload))
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	stop := running(ctx, w)
	defer func() { err = errors.Join(err, stop()) }()
	if away > 0 {
		if err := stage.Await(ctx, time.Minute, "a call fails", func() bool { return a.calls.Load() > 0 }); err != nil {
			return 0, err
		}
		if err := stage.Pause(ctx, away); err != nil {
			return 0, err
		}
		a.away.Store(false)
	}
	if err := stage.Progress(ctx, n, seen.Count.Load, func() error { return nil }); err != nil {
		return 0, err
	}
	dead, err := leftovers(ctx, d)
	m.Set("dead", float64(dead))
	return a.calls.Load(), err
}
