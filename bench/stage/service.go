package stage

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/systems"
)

// SteadyProducers is how many publish in the steady states.
const SteadyProducers = 16

// A Service is traffic, and a handler that measures it.
type Service struct {
	Traffic
	Handled   atomic.Int64
	from      atomic.Int64 // when commits count, in ns; 0 is never
	latencies atomic.Pointer[measure.Latencies]
}

// NewService returns a service with so many producers, which publish perSecond events together, or as many as they can if that is 0.
func NewService(d *Database, s systems.System, producers int, perSecond float64) *Service {
	return &Service{Traffic: Traffic{Pool: d.Pool, Publish: PublishBy(s), Producers: producers, PerSecond: perSecond, sent: newStamps()}}
}

// Handle counts an event, and measures how long it took to come. It is a systems.Handler.
func (s *Service) Handle(_ context.Context, payload []byte) error {
	at := time.Now()
	s.Handled.Add(1)
	if from := s.from.Load(); from > 0 {
		if sent := s.sent.at(Sequence(payload)); sent.UnixNano() >= from {
			s.latencies.Load().Add(at.Sub(sent))
		}
	}
	return nil
}

// A Span is what a service did for a while.
type Span struct {
	in, Out   float64 // a second
	backlog   float64
	latencies *measure.Latencies
}

// Report sets what it says.
func (s *Span) Report(m *Measurement) {
	m.Set("in", s.in)
	m.Set("out", s.Out)
	m.Set("balance", s.Out/s.in)
	m.Set("backlog", s.backlog)
	if s.latencies.Count() > 0 {
		m.Set("p50", s.latencies.Milliseconds(50))
		m.Set("p99", s.latencies.Milliseconds(99))
		m.Set("p999", s.latencies.Milliseconds(99.9))
	}
}

// Milliseconds returns a percentile of the latencies.
func (s *Span) Milliseconds(percentile float64) float64 { return s.latencies.Milliseconds(percentile) }

// Observe measures a running service for d.
func (s *Service) Observe(ctx context.Context, d time.Duration) (*Span, error) {
	return s.ObserveWhile(func() error { return Pause(ctx, d) })
}

// ObserveWhile measures a running service for as long as do takes.
func (s *Service) ObserveWhile(do func() error) (*Span, error) {
	latencies := measure.NewLatencies()
	s.latencies.Store(latencies)
	start := time.Now()
	committed, handled := s.Committed.Load(), s.Handled.Load()
	s.from.Store(start.UnixNano())
	if err := do(); err != nil {
		return nil, err
	}
	s.from.Store(0)
	seconds := time.Since(start).Seconds()
	// In this order, so that what is handled in between makes no backlog.
	committedAfter, handledAfter := s.Committed.Load(), s.Handled.Load()
	return &Span{
		in:        float64(committedAfter-committed) / seconds,
		Out:       float64(handledAfter-handled) / seconds,
		backlog:   float64(max(0, committedAfter-handledAfter)),
		latencies: latencies,
	}, nil
}
