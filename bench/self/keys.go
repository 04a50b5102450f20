package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// burstWork is how long the handler of an event of a burst takes.
const burstWork = 20 * time.Millisecond

// burstEvents and longEvents are how many events a special key has.
const burstEvents, longEvents = 5000, 100_000

func keys(s scale) stage.Scenario {
	cases := []*keyCase{
		burstCase(s, single), burstCase(s, oneByOne), slowHeadCase(s), failingHeadCase(s),
		lateCase(s, single), lateCase(s, oneByOne), failingKeysCase(s),
	}
	sc := stage.Scenario{
		Scenario: report.Scenario{
			Number: 14,
			Title:  "One key beside others",
			Method: `9,999 keys have 500 events a second together, whose handlers do nothing, while a special key is busy, slow, failing or late. Then the
same once more, with the events of the special key published to a topic that the subscription does not have, for as long. Latency is that of the other keys,
from the commit to the handler; a stall is the longest time in which no handler of theirs began. Rows are deliveries, those of the special key that has most,
and holds the keys that are held, at most. "Of what is allowed" is the p99, as part of 1.5 times that of the comparison, or of 10 ms more than it if that is
more. A case counts only if every event was handled and nothing is left.`,
			Columns: []report.Column{
				{Key: "p99", Title: "p99 ms"},
				{Key: "p99 without", Title: "without: p99 ms"},
				{Key: "allowed", Title: "p99: of what is allowed"},
				{Key: "p50", Title: "p50 ms"},
				{Key: "p50 without", Title: "without: p50 ms"},
				{Key: "stall", Title: "stall ms"},
				{Key: "stall without", Title: "without: stall ms"},
				{Key: "rows", Title: "rows"},
				{Key: "holds", Title: "holds"},
				{Key: "took", Title: "took s"},
				{Key: "disordered", Title: "out of order"},
				{Key: "repeated", Title: "repeated"},
				{Key: "dead", Title: "dead letters"},
			},
		},
		Cells: func(e *stage.Env) []stage.Cell {
			var cells []stage.Cell
			for _, c := range cases {
				cells = append(cells, stage.Cell{
					Name: c.name, System: systems.Signalbox,
					Run: func(ctx context.Context, m *stage.Measurement) error { return c.compare(ctx, e, m) },
				})
			}
			return cells
		},
	}
	for _, c := range cases {
		target := func(what, value string, most float64, unit string) {
			sc.Targets = append(sc.Targets, report.Target{
				What: c.name + ": " + what, Of: report.Ref{Case: c.name, System: systems.Signalbox, Value: value}, AtMost: most, Unit: unit,
			})
		}
		target("p99", "allowed", 1, "of what is allowed")
		target("longest stall", "stall", 2000, "ms")
		if c.rows > 0 {
			target("rows of a key", "rows", c.rows, "")
		}
		target("out of order", "disordered", none, "")
		target("dead letters", "dead", none, "")
	}
	return sc
}

// none is at most no event, where a target needs something greater than zero.
const none = 0.5

// A keyCase is what a special key does.
type keyCase struct {
	name         string
	form         string
	subscription worker.Subscription // what of it is not the default
	keys, events int64               // special ones
	rows         float64             // how many one of the keys may have; 0 has no bound
	lasts        time.Duration       // about how long it takes

	publish func(ctx context.Context, d *stage.Database, topic string) error
	handler func() func(ctx context.Context, n int64) error // of special events; a new one for each measurement
}

func burstCase(s scale, form string) *keyCase {
	n := s.count(burstEvents, 50)
	return &keyCase{
		name: "(a) a burst, " + form, form: form, keys: 1, events: n, rows: 200, lasts: time.Duration(n) * burstWork,
		publish: func(ctx context.Context, d *stage.Database, topic string) error {
			return publishSpecial(ctx, d, topic, n)
		},
		handler: func() func(context.Context, int64) error {
			return func(ctx context.Context, _ int64) error { return sleep(ctx, burstWork) }
		},
	}
}

func slowHeadCase(s scale) *keyCase {
	head, n := s.time(time.Minute, 100*time.Millisecond), s.count(longEvents, 500)
	return &keyCase{
		name: "(b) a slow head, " + single, form: single, keys: 1, events: n, rows: 200, lasts: head,
		subscription: worker.Subscription{Timeout: head + head/2 + time.Second},
		publish: func(ctx context.Context, d *stage.Database, topic string) error {
			return publishSpecial(ctx, d, topic, n)
		},
		handler: func() func(context.Context, int64) error {
			return func(ctx context.Context, n int64) error {
				if n == 0 {
					return sleep(ctx, head)
				}
				return nil
			}
		},
	}
}

// failing fails for a time from the first event on, where fails says so.
func failing(lasts time.Duration, fails func(n int64) bool) func() func(context.Context, int64) error {
	return func() func(context.Context, int64) error {
		var first atomic.Int64
		return func(_ context.Context, n int64) error {
			now := time.Now().UnixNano()
			first.CompareAndSwap(0, now)
			if fails(n) && now-first.Load() < lasts.Nanoseconds() {
				return errors.New("it fails for a while")
			}
			return nil
		}
	}
}

// retries are scaled, too.
func retries(s scale) worker.Retry {
	first := s.time(time.Second, 20*time.Millisecond)
	return worker.Retry{InitialInterval: first, MaxInterval: max(first, s.time(20*time.Second, 100*time.Millisecond))}
}

func failingHeadCase(s scale) *keyCase {
	lasts, n := s.time(5*time.Minute, 500*time.Millisecond), s.count(longEvents, 500)
	return &keyCase{
		name: "(c) a failing head, " + single, form: single, keys: 1, events: n, rows: 200, lasts: lasts,
		subscription: worker.Subscription{Retry: retries(s)},
		publish: func(ctx context.Context, d *stage.Database, topic string) error {
			return publishSpecial(ctx, d, topic, n)
		},
		handler: failing(lasts, func(n int64) bool { return n == 0 }),
	}
}

func lateCase(s scale, form string) *keyCase {
	n := s.count(longEvents, 500)
	open := s.time(5*time.Second, 200*time.Millisecond) // while others commit
	return &keyCase{
		name: "(d) a late transaction, " + form, form: form, keys: 1, events: n, lasts: open,
		publish: func(ctx context.Context, d *stage.Database, topic string) error {
			tx, err := d.Pool.Begin(ctx)
			if err != nil {
				return err
			}
			_, err = outbox.PublishFrom(ctx, tx, specialEvents(topic, 1, 0, n))
			if err == nil {
				err = stage.Pause(ctx, open)
			}
			if err != nil {
				return errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
			}
			return tx.Commit(ctx)
		},
		handler: func() func(context.Context, int64) error { return func(context.Context, int64) error { return nil } },
	}
}

func failingKeysCase(s scale) *keyCase {
	const eachHas, perSecond = 300, 1000
	count, lasts := s.count(1000, 5), s.time(10*time.Minute, time.Second)
	return &keyCase{
		name: "1,000 of 10,000 keys fail, " + single, form: single, keys: count, events: count * eachHas, rows: 200, lasts: lasts,
		subscription: worker.Subscription{Retry: retries(s)},
		publish: func(ctx context.Context, d *stage.Database, topic string) error {
			const some = perSecond / 10
			ticks := time.NewTicker(time.Second / (perSecond / some))
			defer ticks.Stop()
			for from := int64(0); from < count*eachHas; from += some {
				if _, err := outbox.PublishFrom(ctx, d.Pool, specialEvents(topic, count, from, min(from+some, count*eachHas))); err != nil {
					return err
				}
				select {
				case <-ticks.C:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		},
		handler: failing(lasts, func(int64) bool { return true }),
	}
}

// A beside is what was measured of the others.
type beside struct {
	span  *stage.Span
	stall time.Duration
	took  time.Duration
	lines *lines
	watch *watch
	dead  int64
}

// compare measures the others with the special key and without.
func (c *keyCase) compare(ctx context.Context, e *stage.Env, m *stage.Measurement) error {
	m.Begin()
	defer m.End()
	with, err := c.measure(ctx, e, specialTopic, 0)
	if err != nil {
		return err
	}
	without, err := c.measure(ctx, e, unheardTopic, with.took)
	if err != nil {
		return fmt.Errorf("without the special key: %w", err)
	}
	p99, p99Without := with.span.Milliseconds(99), without.span.Milliseconds(99)
	m.Set("p50", with.span.Milliseconds(50))
	m.Set("p50 without", without.span.Milliseconds(50))
	m.Set("p99", p99)
	m.Set("p99 without", p99Without)
	m.Set("allowed", p99/max(1.5*p99Without, p99Without+10))
	m.Set("stall", with.stall.Seconds()*1000)
	m.Set("stall without", without.stall.Seconds()*1000)
	m.Set("rows", float64(with.watch.rows))
	m.Set("holds", float64(with.watch.holds))
	m.Set("took", with.took.Seconds())
	m.Set("disordered", float64(with.lines.disordered))
	m.Set("repeated", float64(with.lines.repeated))
	m.Set("dead", float64(with.dead))
	return nil
}

// measure measures the others until the events of the special key are handled or, where the subscription does not have their topic,
// for so long.
func (c *keyCase) measure(ctx context.Context, e *stage.Env, topic string, lasts time.Duration) (b *beside, err error) {
	ours := e.Systems[0]
	d, err := e.Open(ctx, ours)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	o := newOthers(d, ours)
	b = &beside{lines: newLines(c.keys)}
	w, err := worker.New(d.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	s, special := c.subscription, c.handler()
	s.Name, s.Topics = systems.DefaultSubscription, []string{systems.Topic, specialTopic}
	err = register(w, c.form, s, func(ctx context.Context, e *effectEvent) error {
		if e.Topic != specialTopic {
			return o.handle(ctx, e.Payload)
		}
		n := stage.Sequence(e.Payload)
		err := special(ctx, n)
		if err == nil {
			b.lines.done(n)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	stop := running(ctx, w)
	defer func() { err = errors.Join(err, stop()) }()
	if err := o.First(ctx, &o.Handled); err != nil {
		return nil, err
	}
	err = o.While(ctx, func() error {
		if err := stage.Pause(ctx, warmUp(e)); err != nil {
			return err
		}
		b.watch = watchRows(ctx, d, specialTopic, true)
		start := time.Now()
		o.stalled.Store(0)
		b.span, err = o.ObserveWhile(func() error {
			if err := c.publish(ctx, d, topic); err != nil {
				return err
			}
			if topic == unheardTopic {
				return stage.Pause(ctx, time.Until(start.Add(lasts)))
			}
			return stage.Await(ctx, 2*c.lasts+5*time.Minute, "all events of the special key are handled", func() bool { return b.lines.handled() >= c.events })
		})
		b.stall, b.took = o.stall(), time.Since(start)
		return errors.Join(err, b.watch.stop())
	})
	if err == nil {
		err = o.finish(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%w (of the special key, %d of %d events were handled, %d out of order)", err, b.lines.handled(), c.events, b.lines.disordered)
	}
	b.dead, err = leftovers(ctx, d)
	return b, err
}

// Others are the keys beside a special one.
type others struct {
	*stage.Service
	distinct *stage.Distinct
	last     atomic.Int64 // when a handler began, in ns
	stalled  atomic.Int64 // the longest time between two of them, in ns
	upTo     int64        // events before this one are known to be handled
}

func newOthers(d *stage.Database, s systems.System) *others {
	o := &others{Service: stage.NewService(d, s, stage.SteadyProducers, otherRate), distinct: stage.NewDistinct(1 << 21)}
	o.Publish = publishOther(s)
	return o
}

// handle measures an event of theirs.
func (o *others) handle(ctx context.Context, payload json.RawMessage) error {
	now := time.Now().UnixNano()
	if last := o.last.Swap(now); last != 0 {
		for {
			most := o.stalled.Load()
			if now-last <= most || o.stalled.CompareAndSwap(most, now-last) {
				break
			}
		}
	}
	o.distinct.Add(stage.Sequence(payload))
	return o.Handle(ctx, payload)
}

// stall is the longest time in which no handler began, also if that still lasts.
func (o *others) stall() time.Duration {
	return time.Duration(max(o.stalled.Load(), time.Now().UnixNano()-o.last.Load()))
}

// finish waits until all that was published is handled.
func (o *others) finish(ctx context.Context) error {
	return stage.Progress(ctx, o.Committed.Load(), o.distinct.Count.Load, func() error { return nil })
}
