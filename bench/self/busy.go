package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/worker"
)

const (
	busyRateCase     = "one key, a handler that does nothing"
	busyKillCase     = "a kill during (a)"
	burstStopCase    = "a shutdown during (a)"
	slowHeadStopCase = "a shutdown during (b)"
)

func busy(s scale) stage.Scenario {
	of := func(name, value string) report.Ref {
		return report.Ref{Case: name, System: systems.Signalbox, Value: value}
	}
	sc := stage.Scenario{
		Scenario: report.Scenario{
			Number: 15,
			Title:  "A busy key, and what stops its worker",
			Method: `A backlog of 100,000 events of one key is drained. Then a worker is killed or told to stop during cases (a) and (b) of scenario 14, and
another one goes on. "Repeated" is what was handled before: after a kill it counts what was begun before. A stop is measured against the ShutdownTimeout.`,
			Columns: []report.Column{
				{Key: "rate", Title: "events/s"},
				{Key: "repeated work", Title: "repeated: s of work"},
				{Key: "repeated", Title: "repeated"},
				{Key: "repeated others", Title: "repeated of other keys"},
				{Key: "stop", Title: "stop s"},
				{Key: "stop part", Title: "stop: of its timeout"},
				{Key: "disordered", Title: "out of order"},
				{Key: "dead", Title: "dead letters"},
			},
		},
		Cells: func(e *stage.Env) []stage.Cell {
			ours := systems.Signalbox
			return []stage.Cell{
				{Name: busyRateCase, System: ours, Run: func(ctx context.Context, m *stage.Measurement) error { return busyRate(ctx, e, m, s) }},
				{Name: busyKillCase, System: ours, Run: func(ctx context.Context, m *stage.Measurement) error { return busyKill(ctx, e, m, s) }},
				{Name: burstStopCase, System: ours, Run: func(ctx context.Context, m *stage.Measurement) error {
					return shutdown(ctx, e, m, s, burstCase(s, single))
				}},
				{Name: slowHeadStopCase, System: ours, Run: func(ctx context.Context, m *stage.Measurement) error {
					return shutdown(ctx, e, m, s, slowHeadCase(s))
				}},
			}
		},
		Targets: []report.Target{{What: busyKillCase + ": repeated work", Of: of(busyKillCase, "repeated work"), AtMost: 2, Unit: "s"}},
	}
	for _, name := range []string{burstStopCase, slowHeadStopCase} {
		sc.Targets = append(sc.Targets,
			report.Target{What: name + ": until it has stopped", Of: of(name, "stop part"), AtMost: 1.1, Unit: "of the timeout"},
			report.Target{What: name + ": repeated", Of: of(name, "repeated"), AtMost: none},
			report.Target{What: name + ": repeated of other keys", Of: of(name, "repeated others"), AtMost: none})
	}
	for _, name := range []string{busyKillCase, burstStopCase, slowHeadStopCase} {
		sc.Targets = append(sc.Targets, report.Target{What: name + ": out of order", Of: of(name, "disordered"), AtMost: none})
	}
	return sc
}

// busyRate drains a backlog of one key.
func busyRate(ctx context.Context, e *stage.Env, m *stage.Measurement, s scale) (err error) {
	d, err := e.Open(ctx, e.Systems[0])
	if err != nil {
		return err
	}
	defer d.Close()
	n := s.count(longEvents, 500)
	if err := errors.Join(publishSpecial(ctx, d, specialTopic, n), d.Calm(ctx)); err != nil {
		return err
	}
	w, err := worker.New(d.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	l := newLines(1)
	var first atomic.Int64
	err = worker.Handle(w, worker.Subscription{Name: systems.DefaultSubscription, Topics: []string{specialTopic}}, func(_ context.Context, event *effectEvent) error {
		first.CompareAndSwap(0, time.Now().UnixNano())
		l.done(stage.Sequence(event.Payload))
		return nil
	})
	if err != nil {
		return err
	}
	m.Begin()
	stop := running(ctx, w)
	defer func() { err = errors.Join(err, stop()) }()
	if err := stage.Progress(ctx, n, l.handled, func() error { return nil }); err != nil {
		return err
	}
	took := time.Since(time.Unix(0, first.Load()))
	m.End()
	m.Set("rate", float64(n)/took.Seconds())
	m.Set("disordered", float64(l.disordered))
	m.Set("repeated", float64(l.repeated))
	return nil
}

// burstFrom is the number of the first event of a burst that has the topic of the others.
const burstFrom = 1 << 40

// busyKill kills a worker process in the middle of a burst, and has another one go on.
func busyKill(ctx context.Context, e *stage.Env, m *stage.Measurement, s scale) error {
	ours := e.Systems[0]
	d, err := e.Open(ctx, ours)
	if err != nil {
		return err
	}
	defer d.Close()
	n, begun, alive := s.count(burstEvents, 200), newLines(1), atomic.Bool{}
	told := func(n int64, _ time.Time) {
		alive.Store(true)
		if n >= burstFrom {
			begun.done(n - burstFrom)
		}
	}
	start := func() (*stage.Process, error) {
		p, err := e.StartProcess(ctx, d, ours, stage.Work{Sleep: burstWork}, told)
		if err == nil {
			err = p.Begin()
		}
		return p, err
	}
	p, err := start()
	if err != nil {
		return err
	}
	defer func() { p.Kill() }()
	t := &stage.Traffic{Pool: d.Pool, Publish: publishOther(ours), Producers: stage.SteadyProducers, PerSecond: otherRate}
	m.Begin()
	defer m.End()
	return t.While(ctx, func() error {
		if err := stage.Await(ctx, time.Minute, "the worker handles events", alive.Load); err != nil {
			return err
		}
		if err := publishBurst(ctx, d, ours, n); err != nil {
			return err
		}
		if err := stage.Progress(ctx, n/3, begun.handled, func() error { return nil }); err != nil {
			return err
		}
		p.Kill()
		if p, err = start(); err != nil {
			return err
		}
		if err := stage.Progress(ctx, n, begun.handled, func() error { return nil }); err != nil {
			return err
		}
		m.Set("repeated", float64(begun.repeated))
		m.Set("repeated work", (time.Duration(begun.repeated) * burstWork).Seconds())
		m.Set("disordered", float64(begun.disordered))
		return p.Stop()
	})
}

// publishBurst writes n events of one key to the topic of the others.
func publishBurst(ctx context.Context, d *stage.Database, ours systems.System, n int64) error {
	for from := int64(0); from < n; from += stage.Batch {
		var events []systems.Event
		for i := from; i < min(from+stage.Batch, n); i++ {
			events = append(events, systems.Event{Key: specialKey, Payload: fmt.Appendf(nil, `{"n":%d}`, burstFrom+i)})
		}
		if err := pgx.BeginFunc(ctx, d.Pool, func(tx pgx.Tx) error { return ours.Publish(ctx, tx, events) }); err != nil {
			return err
		}
	}
	return nil
}

// shutdown tells a worker to stop in the middle of a case, and has another one go on.
func shutdown(ctx context.Context, e *stage.Env, m *stage.Measurement, s scale, c *keyCase) error {
	ours := e.Systems[0]
	d, err := e.Open(ctx, ours)
	if err != nil {
		return err
	}
	defer d.Close()
	timeout := s.time(30*time.Second, time.Second)
	o, l, special, begun := newOthers(d, ours), newLines(1), c.handler(), make(chan struct{}, 1)
	work := func() (*worker.Worker, error) {
		w, err := worker.New(d.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler), ShutdownTimeout: timeout})
		if err != nil {
			return nil, err
		}
		s := c.subscription
		s.Name, s.Topics = systems.DefaultSubscription, []string{systems.Topic, specialTopic}
		return w, register(w, c.form, s, func(ctx context.Context, e *effectEvent) error {
			if e.Topic != specialTopic {
				return o.handle(ctx, e.Payload)
			}
			select {
			case begun <- struct{}{}:
			default:
			}
			n := stage.Sequence(e.Payload)
			err := special(ctx, n)
			if err == nil {
				l.done(n)
			}
			return err
		})
	}
	w, err := work()
	if err != nil {
		return err
	}
	stop := running(ctx, w)
	defer func() { _ = stop() }()
	if err := o.First(ctx, &o.Handled); err != nil {
		return err
	}
	m.Begin()
	err = o.While(ctx, func() error {
		if err := c.publish(ctx, d, specialTopic); err != nil {
			return err
		}
		select {
		case <-begun:
		case <-time.After(stage.StuckAfter):
			return errors.New("the special key is not handled")
		}
		if err := stage.Pause(ctx, c.lasts/4); err != nil {
			return err
		}
		start := time.Now()
		if err := stop(); err != nil {
			return err
		}
		took := time.Since(start)
		m.Set("stop", took.Seconds())
		m.Set("stop part", took.Seconds()/timeout.Seconds())
		next, err := work()
		if err != nil {
			return err
		}
		stop = running(ctx, next)
		return stage.Await(ctx, 2*c.lasts+5*time.Minute, "all events of the special key are handled", func() bool { return l.handled() >= c.events })
	})
	if err == nil {
		err = o.finish(ctx)
	}
	m.End()
	if err != nil {
		return err
	}
	dead, err := leftovers(ctx, d)
	m.Set("repeated", float64(l.repeated))
	m.Set("repeated others", float64(o.Handled.Load()-o.distinct.Count.Load()))
	m.Set("disordered", float64(l.disordered))
	m.Set("dead", float64(dead))
	return errors.Join(err, stop())
}
