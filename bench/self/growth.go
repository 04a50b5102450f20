package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// What grows: the log, in millions of events, the workers, and the payloads, in bytes.
var (
	logSizes     = []int64{1, 10, 50}
	workerCounts = []int{1, 10, 100}
	payloadSizes = []int{100, 10_000, 1_000_000}
)

const (
	growthRate      = 100        // events a second where latency is measured,
	growthBandwidth = 10_000_000 // or so many bytes, if that is less
	growthDrain     = 300_000    // events that are drained and deleted,
	growthVolume    = 300 << 20  // or so many bytes, if that is less
)

func logCase(millions int64) string { return fmt.Sprintf("%d million events", millions) }

func workersCase(n int) string {
	if n == 1 {
		return "1 worker"
	}
	return fmt.Sprintf("%d workers", n)
}

func payloadCase(size int) string {
	switch {
	case size >= 1_000_000:
		return fmt.Sprintf("payloads of %d MB", size/1_000_000)
	case size >= 1000:
		return fmt.Sprintf("payloads of %d KB", size/1000)
	default:
		return fmt.Sprintf("payloads of %d bytes", size)
	}
}

func growth(s scale) stage.Scenario {
	ours := func(millions int64, value string) report.Ref {
		return report.Ref{Case: logCase(millions), System: systems.Signalbox, Value: value}
	}
	first, last := logSizes[0], logSizes[len(logSizes)-1]
	return stage.Scenario{
		Scenario: report.Scenario{
			Number: 19,
			Title:  "Growth",
			Method: fmt.Sprintf(`First one log that grows, each event of it with a key of its own, vacuumed and analyzed after each step. A new subscription begins
at its end: 8 producers at full speed beside its worker, latency at %d events/s, and the status, the dashboard's overview and its page of events, each the median
of %d calls. Then a backlog of %d events at the log's end is drained by a new process, whose peak of memory is told, and as many of the log's oldest
events are deleted, as retention does it, but without its rests. Then the same beside ever more workers of the one subscription, all in one process, of which a crew of as
many drains the backlog, and with ever larger payloads: their latency is at %d MB/s, and their backlog has %d MiB, where that is less. One round.`,
				growthRate, pagesCalls, growthDrain, growthBandwidth/1_000_000, growthVolume>>20),
			Columns: []report.Column{
				{Key: "full", Title: "published/s"},
				{Key: "p50", Title: "p50 ms"},
				{Key: "p99", Title: "p99 ms"},
				{Key: "status", Title: "status ms"},
				{Key: "overview", Title: "overview ms"},
				{Key: "page", Title: "events page ms"},
				{Key: "rate", Title: "drained/s"},
				{Key: "peak", Title: "peak MiB"},
				{Key: "deleted", Title: "deleted/s"},
				{Key: "gib", Title: "GiB"},
			},
		},
		Once: true,
		Cells: func(e *stage.Env) []stage.Cell {
			log := &growingLog{env: e, scale: s}
			var cells []stage.Cell
			for _, millions := range logSizes {
				n := s.count(millions*1_000_000, 1)
				cells = append(cells, stage.Cell{Name: logCase(millions), System: systems.Signalbox, Run: func(ctx context.Context, m *stage.Measurement) error {
					return log.measure(ctx, m, n)
				}})
			}
			for _, n := range workerCounts {
				cells = append(cells, stage.Cell{Name: workersCase(n), System: systems.Signalbox, Run: workersCell(e, s, n)})
			}
			for _, size := range payloadSizes {
				cells = append(cells, stage.Cell{Name: payloadCase(size), System: systems.Signalbox, Run: payloadCell(e, s, size)})
			}
			return cells
		},
		Targets: []report.Target{
			{What: "publishing, the largest log against the smallest", Of: ours(last, "full"), Against: []report.Ref{ours(first, "full")}, AtLeast: 0.95, Unit: "of the rate"},
			{What: "p50, the largest log against the smallest", Of: ours(last, "p50"), Against: []report.Ref{ours(first, "p50")}, AtMost: 1.1},
			{What: "p99, the largest log against the smallest", Of: ours(last, "p99"), Against: []report.Ref{ours(first, "p99")}, AtMost: 1.1},
			{What: "status of the largest log", Of: ours(last, "status"), AtMost: 300, Unit: "ms"},
			{What: "overview of the largest log", Of: ours(last, "overview"), AtMost: 300, Unit: "ms"},
			{What: "events page of the largest log", Of: ours(last, "page"), AtMost: 300, Unit: "ms"},
		},
	}
}

// drained is how many events of a size are drained and deleted.
func drained(s scale, size int) int64 {
	return s.count(min(growthDrain, growthVolume/int64(size)), 100)
}

// begin makes the subscription of a measurement, at the log's end. It is there no more when it was ended.
func begin(ctx context.Context, d *stage.Database) (end func() error, err error) {
	_, err = admin.CreateSubscription(ctx, d.Pool, systems.DefaultSubscription, []string{systems.Topic}, outbox.FromNow)
	return func() error {
		return admin.DeleteSubscription(context.WithoutCancel(ctx), d.Pool, systems.DefaultSubscription, true)
	}, err
}

// opened returns a database of its own for a measurement, with its subscription.
func opened(ctx context.Context, e *stage.Env) (*stage.Database, error) {
	d, err := e.Open(ctx, e.Systems[0])
	if err != nil {
		return nil, err
	}
	if _, err := begin(ctx, d); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// work runs so many workers of the subscription in this process, until stop is called.
func work(ctx context.Context, d *stage.Database, workers int, handle systems.Handler) (stop func() error, err error) {
	working, cancel := context.WithCancel(ctx)
	var crew errgroup.Group
	stop = func() error {
		cancel()
		return crew.Wait()
	}
	for range workers {
		w, err := worker.New(d.Pool, worker.Config{Logger: systems.Quiet})
		if err == nil {
			err = worker.Handle(w, worker.Subscription{Name: systems.DefaultSubscription}, func(ctx context.Context, e *effectEvent) error { return handle(ctx, e.Payload) })
		}
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		crew.Go(func() error { return w.Run(working) })
	}
	return stop, nil
}

// measureTraffic measures latency at the service's rate, and publishing at full speed, beside workers.
func measureTraffic(ctx context.Context, e *stage.Env, m *stage.Measurement, service *stage.Service) error {
	if err := service.First(ctx, &service.Handled); err != nil {
		return err
	}
	m.Begin()
	defer m.End()
	err := service.While(ctx, func() error {
		if err := stage.Pause(ctx, warmUp(e)); err != nil {
			return err
		}
		span, err := service.Observe(ctx, e.Duration)
		if err == nil {
			span.Report(m)
		}
		return err
	})
	if err != nil {
		return err
	}
	service.PerSecond = 0
	return service.While(ctx, func() error {
		if err := stage.Pause(ctx, warmUp(e)/2); err != nil {
			return err
		}
		before, start := service.Committed.Load(), time.Now()
		err := stage.Pause(ctx, e.Duration)
		m.Set("full", float64(service.Committed.Load()-before)/time.Since(start).Seconds())
		return err
	})
}

// caughtUp waits until all that was published is handled.
func caughtUp(ctx context.Context, service *stage.Service) error {
	return stage.Await(ctx, stage.StuckAfter, "what was published is handled", func() bool { return service.Handled.Load() >= service.Committed.Load() })
}

// expire deletes events that are older than keep as retention does, n of them or some more.
func expire(ctx context.Context, m *stage.Measurement, d *stage.Database, keep time.Duration, n int64) error {
	const chunk = 2000
	start, deleted := time.Now(), int64(0)
	for deleted < n {
		before := deleted
		lanes, err := engine.ExpiredLanes(ctx, d.Pool, keep, false)
		if err != nil {
			return err
		}
		for _, lane := range lanes {
			some, err := engine.Trim(ctx, d.Pool, lane, keep, chunk, false)
			if err != nil {
				return err
			}
			deleted += int64(some)
		}
		if deleted == before {
			return fmt.Errorf("%d events were deleted of %d", deleted, n)
		}
	}
	m.Set("deleted", float64(deleted)/time.Since(start).Seconds())
	return nil
}
