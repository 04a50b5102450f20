package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

const (
	// limitRate is how many calls a second are answered, and limitEvents how many there are to make.
	limitRate, limitEvents = 10, 1000
	limitKeys              = 200
	retryAfter             = time.Second // the least that a header can say
)

// A limitCase is how workers heed a limit.
type limitCase struct {
	name    string
	paced   bool // by Rate, and not only by PauseFor
	workers int
}

func limits(s scale) stage.Scenario {
	cases := []limitCase{
		{"PauseFor, one worker", false, 1},
		{"PauseFor, three workers", false, 3},
		{"Rate, one worker", true, 1},
		{"Rate, three workers", true, 3},
	}
	sc := stage.Scenario{
		Scenario: report.Scenario{
			Number: 17,
			Title:  "A limit of what handlers call",
			Method: `Handlers call an API that answers ten calls a second, and others with status 429 and "Retry-After: 1", which they tell their worker by
PauseFor; with Rate, the subscription has the rate of the API. There are 1,000 events of 200 keys. The ideal time is that in which the API can answer as
many calls, ten of them at once. Lines are those of the logs of all workers.`,
			Columns: []report.Column{
				{Key: "part", Title: "of the ideal time"},
				{Key: "took", Title: "took s"},
				{Key: "refused", Title: "refused calls"},
				{Key: "lines", Title: "lines, most in a second"},
				{Key: "disordered", Title: "out of order"},
				{Key: "dead", Title: "dead letters"},
			},
		},
		Cells: func(e *stage.Env) []stage.Cell {
			var cells []stage.Cell
			for _, c := range cases {
				cells = append(cells, stage.Cell{
					Name: c.name, System: systems.Signalbox,
					Run: func(ctx context.Context, m *stage.Measurement) error { return c.run(ctx, e, m, s) },
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
		target("time", "part", 1.15, "of the ideal")
		if c.paced {
			target("refused calls", "refused", float64(s.count(100, 1)), "")
		}
		target("lines in a second", "lines", float64(c.workers), "")
		target("out of order", "disordered", none, "")
		target("dead letters", "dead", none, "")
	}
	return sc
}

func (c *limitCase) run(ctx context.Context, e *stage.Env, m *stage.Measurement, s scale) (err error) {
	d, err := e.Open(ctx, e.Systems[0])
	if err != nil {
		return err
	}
	defer d.Close()
	n, l := s.count(limitEvents, 30), newLines(limitKeys)
	log, api := newLineCounter(), rate.NewLimiter(limitRate, limitRate)
	var refused, first atomic.Int64
	sub := worker.Subscription{Name: systems.DefaultSubscription, Topics: []string{specialTopic}}
	if c.paced {
		sub.Rate = limitRate
	}
	handler := func(_ context.Context, event *effectEvent) error {
		first.CompareAndSwap(0, time.Now().UnixNano())
		if !api.Allow() {
			refused.Add(1)
			return worker.PauseFor(retryAfter, errors.New("429 Too Many Requests"))
		}
		l.done(stage.Sequence(event.Payload))
		return nil
	}
	for i := range c.workers {
		w, err := worker.New(d.Pool, worker.Config{Logger: slog.New(log), Name: fmt.Sprintf("worker %d", i)})
		if err != nil {
			return err
		}
		if err := worker.Handle(w, sub, handler); err != nil {
			return err
		}
		stop := running(ctx, w)
		defer func() { err = errors.Join(err, stop()) }()
	}
	err = stage.Await(ctx, time.Minute, "the workers share the lanes", func() bool {
		var owners int
		err := d.Pool.QueryRow(ctx, `select count(distinct owner) from outbox.lanes where owner is not null having count(owner) = 64`).Scan(&owners)
		return err == nil && owners == c.workers && log.claims.Load() >= int64(c.workers) // and they have said so
	})
	if err != nil {
		return err
	}
	log.reset()
	m.Begin()
	defer m.End()
	if _, err := outbox.PublishFrom(ctx, d.Pool, specialEvents(specialTopic, limitKeys, 0, n)); err != nil {
		return err
	}
	if err := stage.Progress(ctx, n, l.handled, func() error { return nil }); err != nil {
		return err
	}
	took := time.Since(time.Unix(0, first.Load())).Seconds()
	m.Set("took", took)
	m.Set("part", took/(float64(n-limitRate)/limitRate))
	m.Set("refused", float64(refused.Load()))
	m.Set("lines", float64(log.most()))
	dead, err := leftovers(ctx, d)
	m.Set("disordered", float64(l.disordered))
	m.Set("dead", float64(dead))
	return err
}

// A lineCounter counts the lines of logs by seconds.
type lineCounter struct {
	mu       *sync.Mutex
	bySecond map[int64]int
	claims   *atomic.Int64 // how many say that lanes were claimed
}

func newLineCounter() lineCounter {
	return lineCounter{&sync.Mutex{}, map[int64]int{}, &atomic.Int64{}}
}

func (c lineCounter) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}
func (c lineCounter) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c lineCounter) WithGroup(string) slog.Handler      { return c }

func (c lineCounter) Handle(_ context.Context, record slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bySecond[record.Time.Unix()]++; record.Message == "claimed lanes" {
		c.claims.Add(1)
	}
	return nil
}

func (c lineCounter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.bySecond)
}

// most is how many lines the busiest second has.
func (c lineCounter) most() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	most := 0
	for _, n := range c.bySecond {
		most = max(most, n)
	}
	return most
}
