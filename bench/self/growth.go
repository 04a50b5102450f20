package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// logSizes are how many events the log has, in millions, as it grows.
var logSizes = []int64{1, 10, 50}

const (
	growBy     = 1_000_000 // events in a statement
	growthRate = 100       // events a second where latency is measured
)

func logCase(millions int64) string { return fmt.Sprintf("%d million events", millions) }

func growth(s scale) stage.Scenario {
	ours := func(millions int64, value string) report.Ref {
		return report.Ref{Case: logCase(millions), System: systems.Signalbox, Value: value}
	}
	first, last := logSizes[0], logSizes[len(logSizes)-1]
	return stage.Scenario{
		Scenario: report.Scenario{
			Number: 19,
			Title:  "Growth",
			Method: fmt.Sprintf(`One log that grows, each event of it with a key of its own, vacuumed and analyzed after each step. Then a new subscription at its end: 8
producers at full speed beside its worker, latency at %d events/s, and the status, the dashboard's overview and its page of events, each the median of %d calls. One round.`,
				growthRate, pagesCalls),
			Columns: []report.Column{
				{Key: "full", Title: "published/s"},
				{Key: "p50", Title: "p50 ms"},
				{Key: "p99", Title: "p99 ms"},
				{Key: "status", Title: "status ms"},
				{Key: "overview", Title: "overview ms"},
				{Key: "events", Title: "events page ms"},
				{Key: "gib", Title: "GiB"},
			},
		},
		Once: true,
		Cells: func(e *stage.Env) []stage.Cell {
			log := &growingLog{env: e}
			var cells []stage.Cell
			for _, millions := range logSizes {
				n := int64(float64(millions) * float64(s) * 1e6)
				cells = append(cells, stage.Cell{Name: logCase(millions), System: systems.Signalbox, Run: func(ctx context.Context, m *stage.Measurement) error {
					return log.measure(ctx, m, n)
				}})
			}
			return cells
		},
		Targets: []report.Target{
			{What: "publishing, the largest log against the smallest", Of: ours(last, "full"), Against: []report.Ref{ours(first, "full")}, AtLeast: 0.95, Unit: "of the rate"},
			{What: "p50, the largest log against the smallest", Of: ours(last, "p50"), Against: []report.Ref{ours(first, "p50")}, AtMost: 1.1},
			{What: "p99, the largest log against the smallest", Of: ours(last, "p99"), Against: []report.Ref{ours(first, "p99")}, AtMost: 1.1},
			{What: "status of the largest log", Of: ours(last, "status"), AtMost: 300, Unit: "ms"},
			{What: "overview of the largest log", Of: ours(last, "overview"), AtMost: 300, Unit: "ms"},
			{What: "events page of the largest log", Of: ours(last, "events"), AtMost: 300, Unit: "ms"},
		},
	}
}

// A growingLog is grown from cell to cell.
type growingLog struct {
	env *stage.Env
	d   *stage.Database
	n   int64
}

const growSQL = `
insert into outbox.events (topic, key, payload)
select 'bench.old', 'key-' || n, json_build_object('n', n, 'note', repeat('x', 120))
from generate_series($1::bigint, $2::bigint) as n`

func (l *growingLog) grow(ctx context.Context, n int64) error {
	if l.d == nil {
		d, err := l.env.Open(ctx, l.env.Systems[0])
		if err != nil {
			return err
		}
		l.d = d
		l.env.AtEnd(d.Close)
	}
	for l.n < n {
		to := min(n, l.n+growBy)
		if _, err := l.d.Pool.Exec(ctx, growSQL, l.n+1, to); err != nil {
			return fmt.Errorf("grow the log: %w", err)
		}
		l.n = to
	}
	return l.d.Calm(ctx)
}

func (l *growingLog) measure(ctx context.Context, m *stage.Measurement, n int64) (err error) {
	if err := l.grow(ctx, n); err != nil {
		return err
	}
	var bytes float64
	if err := l.d.Pool.QueryRow(ctx, `select pg_database_size(current_database())`).Scan(&bytes); err != nil {
		return err
	}
	m.Set("gib", bytes/(1<<30))
	service := stage.NewService(l.d, l.env.Systems[0], 8, growthRate)
	stop, err := l.work(ctx, service)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := service.First(ctx, &service.Handled); err != nil {
		return err
	}
	m.Begin()
	defer m.End()
	err = service.While(ctx, func() error {
		if err := stage.Pause(ctx, min(2*time.Second, l.env.Duration/4)); err != nil {
			return err
		}
		span, err := service.Observe(ctx, l.env.Duration)
		if err == nil {
			span.Report(m)
		}
		return err
	})
	if err != nil {
		return err
	}
	service.PerSecond = 0
	err = service.While(ctx, func() error {
		if err := stage.Pause(ctx, min(time.Second, l.env.Duration/8)); err != nil {
			return err
		}
		before, start := service.Committed.Load(), time.Now()
		err := stage.Pause(ctx, l.env.Duration)
		m.Set("full", float64(service.Committed.Load()-before)/time.Since(start).Seconds())
		return err
	})
	if err != nil {
		return err
	}
	return l.look(ctx, m)
}

// work begins a new subscription at the log's end, which is there no more when it has stopped.
func (l *growingLog) work(ctx context.Context, service *stage.Service) (stop func() error, err error) {
	sub := worker.Subscription{Name: systems.DefaultSubscription, Topics: []string{systems.Topic}, Start: outbox.FromNow}
	if _, err := admin.CreateSubscription(ctx, l.d.Pool, sub.Name, sub.Topics, sub.Start); err != nil {
		return nil, err
	}
	w, err := worker.New(l.d.Pool, worker.Config{Logger: systems.Quiet})
	if err != nil {
		return nil, err
	}
	err = worker.Handle(w, sub, func(ctx context.Context, e *worker.Event[json.RawMessage]) error {
		return service.Handle(ctx, e.Payload)
	})
	if err != nil {
		return nil, err
	}
	working, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(working) }()
	return func() error {
		cancel()
		return errors.Join(<-done, admin.DeleteSubscription(context.WithoutCancel(ctx), l.d.Pool, sub.Name, true))
	}, nil
}

// look times what people look at.
func (l *growingLog) look(ctx context.Context, m *stage.Measurement) error {
	pages, err := serve(freshDashboards(l.d))
	if err != nil {
		return err
	}
	defer pages.close()
	for key, call := range map[string]func() error{
		"status":   func() error { _, err := admin.GetStatusUpTo(ctx, l.d.Pool, 10_001); return err },
		"overview": func() error { _, err := fetch(ctx, pages.url); return err },
		"events":   func() error { _, err := fetch(ctx, pages.url+"events"); return err },
	} {
		took, _, err := timed(call)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		m.Set(key, took)
	}
	return nil
}
