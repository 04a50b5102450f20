package scenarios

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/systems"
)

// steadyProducers is how many publish in the steady states.
const steadyProducers = 16

const fullSpeed = "full speed"

func rateCase(perSecond float64) string { return fmt.Sprintf("%g/s", perSecond) }

func steadyState() scenario {
	ours := func(name, value string) report.Ref {
		return report.Ref{Case: name, System: systems.Signalbox, Value: value}
	}
	s := scenario{
		Scenario: report.Scenario{
			Number: 2,
			Title:  "Steady state",
			Method: `16 producers and one worker in one process, as in a service: each transaction is one domain row and one event. Latency is
from just before the commit is sent to the start of the handler, by one clock. Backlog is what was committed and not handled at the end of the
measurement; where there is one, latency would grow with the duration. At fixed rates, the others run at their best settings.`,
			Columns: []report.Column{
				{Key: "p99", Title: "p99 ms"},
				{Key: "p50", Title: "p50 ms"},
				{Key: "p999", Title: "p99.9 ms"},
				{Key: "in", Title: "in/s"},
				{Key: "out", Title: "out/s"},
				{Key: "balance", Title: "out ÷ in"},
				{Key: "backlog", Title: "backlog"},
			},
		},
		cells: func(e *env) []cell {
			var cells []cell
			for _, s := range e.Systems {
				cells = append(cells, cell{fullSpeed, s.Info().Name, e.steadyCell(s, 0)})
			}
			for _, perSecond := range []float64{10, 100, 1000} {
				for _, s := range e.ourselvesAnd(best) {
					cells = append(cells, cell{rateCase(perSecond), s.Info().Name, e.steadyCell(s, perSecond)})
				}
			}
			return cells
		},
		targets: []report.Target{
			{What: "full speed: as much comes out as goes in", Of: ours(fullSpeed, "balance"), AtLeast: 0.99},
			{What: "full speed: backlog", Of: ours(fullSpeed, "backlog"), AtMost: 500, Unit: "events"},
			{What: "full speed: p50", Of: ours(fullSpeed, "p50"), AtMost: 5, Unit: "ms"},
			{What: "full speed: p99", Of: ours(fullSpeed, "p99"), AtMost: 30, Unit: "ms"},
		},
	}
	for _, perSecond := range []float64{10, 100} {
		name := rateCase(perSecond)
		s.targets = append(s.targets,
			report.Target{What: name + ": p50", Of: ours(name, "p50"), AtMost: 3, Unit: "ms"},
			report.Target{What: name + ": p99", Of: ours(name, "p99"), AtMost: 10, Unit: "ms"})
	}
	return s
}

func (e *env) steadyCell(s systems.System, perSecond float64) func(context.Context, *measurement) error {
	return func(ctx context.Context, m *measurement) (err error) {
		d, err := e.open(ctx, s)
		if err != nil {
			return err
		}
		defer d.close()
		service := newService(d, s, steadyProducers, perSecond)
		stop := startWorker(ctx, s, d, []string{systems.DefaultSubscription}, service.handle)
		defer func() { err = errors.Join(err, stop()) }()
		if err := service.first(ctx, &service.handled); err != nil {
			return err
		}
		return service.while(ctx, func() error {
			if err := pause(ctx, min(2*time.Second, e.Duration/4)); err != nil {
				return err
			}
			m.begin()
			span, err := service.observe(ctx, e.Duration)
			m.end()
			if err != nil {
				return err
			}
			span.report(m)
			return nil
		})
	}
}

// A service is traffic, and a handler that measures it.
type service struct {
	traffic
	handled   atomic.Int64
	from      atomic.Int64 // when commits count, in ns; 0 is never
	latencies atomic.Pointer[measure.Latencies]
}

func newService(d *database, s systems.System, producers int, perSecond float64) *service {
	return &service{traffic: traffic{pool: d.pool, publish: publishBy(s), producers: producers, perSecond: perSecond, sent: newStamps()}}
}

func (s *service) handle(_ context.Context, payload []byte) error {
	at := time.Now()
	s.handled.Add(1)
	if from := s.from.Load(); from > 0 {
		if sent := s.sent.at(sequence(payload)); sent.UnixNano() >= from {
			s.latencies.Load().Add(at.Sub(sent))
		}
	}
	return nil
}

// A span is what a service did for a while.
type span struct {
	in, out   float64 // a second
	backlog   float64
	latencies *measure.Latencies
}

func (s *span) report(m *measurement) {
	m.set("in", s.in)
	m.set("out", s.out)
	m.set("balance", s.out/s.in)
	m.set("backlog", s.backlog)
	if s.latencies.Count() > 0 {
		m.set("p50", s.latencies.Milliseconds(50))
		m.set("p99", s.latencies.Milliseconds(99))
		m.set("p999", s.latencies.Milliseconds(99.9))
	}
}

// observe measures a running service for d.
func (s *service) observe(ctx context.Context, d time.Duration) (*span, error) {
	return s.observeWhile(func() error { return pause(ctx, d) })
}

// observeWhile measures a running service for as long as do takes.
func (s *service) observeWhile(do func() error) (*span, error) {
	latencies := measure.NewLatencies()
	s.latencies.Store(latencies)
	start := time.Now()
	committed, handled := s.committed.Load(), s.handled.Load()
	s.from.Store(start.UnixNano())
	if err := do(); err != nil {
		return nil, err
	}
	s.from.Store(0)
	seconds := time.Since(start).Seconds()
	// In this order, so that what is handled in between makes no backlog.
	committedAfter, handledAfter := s.committed.Load(), s.handled.Load()
	return &span{
		in:        float64(committedAfter-committed) / seconds,
		out:       float64(handledAfter-handled) / seconds,
		backlog:   float64(max(0, committedAfter-handledAfter)),
		latencies: latencies,
	}, nil
}
