package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/relay"
)

// The cases.
const (
	manyKeys = "1,000 keys"
	oneKey   = "1 key"
)

func rateCase(perSecond float64) string { return fmt.Sprintf("%g/s", perSecond) }

// latencyRates are those of which the latency is measured.
var latencyRates = []float64{100, 1000}

func relaying(places []*place) stage.Scenario {
	s := stage.Scenario{
		Scenario: report.Scenario{
			Number: 22,
			Title:  "Relay",
			Method: `Each sink beside its own client, with the same messages (CloudEvents in binary mode, some 160 bytes of payload), in turns.
With 1,000 keys, and with one: a backlog is relayed into a sink that acknowledges at once and does nothing, which makes d events/s; the client
alone sends as many messages, as many at a time as the relay, which makes b messages/s; then the relay sends the backlog to the server.
Database, relay and server share the cores, so 1/(1/d + 1/b) is what can be expected of the relay; "share" is its part of that. Of one key, NATS,
RabbitMQ and webhooks have one message in flight, and so has the client; Kafka has them all.
At fixed rates, 16 producers commit one domain row and one event in each transaction. The latency is from just before the
commit is sent until the server's acknowledgement has come; the client's is from the call that sends a message, at the same rate, to that. "Above" is what p50 is more than twice the client's.
Watermill's forwarder, at the best settings of its SQL subscriber, sends to the same RabbitMQ, with confirms.`,
			Columns: []report.Column{
				{Key: "rate", Title: "events/s"},
				{Key: "bare", Title: "client alone/s"},
				{Key: "discard", Title: "discarded/s"},
				{Key: "share", Title: "share"},
				{Key: "p50", Title: "p50 ms"},
				{Key: "p99", Title: "p99 ms"},
				{Key: "client50", Title: "client p50 ms"},
				{Key: "client99", Title: "client p99 ms"},
				{Key: "above", Title: "above ms"},
			},
		},
		Cells: func(e *stage.Env) (cells []stage.Cell) {
			for _, p := range places {
				cells = append(cells, p.cell(manyKeys, p.throughput(e, p.rate, p.inFlight, asPublished)), p.cell(oneKey, p.throughput(e, p.hotRate, p.ofOneKey(), ofOneKey)))
				if p.peer != nil {
					cells = append(cells, stage.Cell{Name: manyKeys, System: p.peer.Info().Name, Run: peerDrains(e, p)})
				}
				for _, perSecond := range latencyRates {
					cells = append(cells, p.cell(rateCase(perSecond), p.latency(e, perSecond)))
				}
				if p.peer != nil {
					cells = append(cells, stage.Cell{Name: rateCase(latencyRates[0]), System: p.peer.Info().Name, Run: peerLatency(e, p, latencyRates[0])})
				}
			}
			return cells
		},
	}
	for _, p := range places {
		of := func(name, value string) report.Ref { return report.Ref{Case: name, System: p.name, Value: value} }
		s.Targets = append(s.Targets, report.Target{What: p.name + ": 1,000 keys, of 1/(1/d + 1/b)", Of: of(manyKeys, "share"), AtLeast: 0.8})
		for _, perSecond := range latencyRates {
			s.Targets = append(s.Targets, report.Target{
				What: fmt.Sprintf("%s: p50 at %s, above twice the client's", p.name, rateCase(perSecond)), Of: of(rateCase(perSecond), "above"), AtMost: 3, Unit: "ms",
			})
		}
	}
	return s
}

func (p *place) cell(name string, run func(context.Context, *stage.Measurement) error) stage.Cell {
	return stage.Cell{Name: name, System: p.name, Run: run}
}

// ofOneKey is how many messages of a key are in flight.
func (p *place) ofOneKey() int {
	if p.name == kafkaKind.name {
		return p.inFlight
	}
	return 1
}

// throughput measures what the relay discards, what the client sends, and what the relay sends.
func (p *place) throughput(e *stage.Env, perSecond float64, inFlight int, keyed keying) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) (err error) {
		n := e.Backlog(perSecond)
		d, err := e.FilledBy(ctx, e.Systems[0], n, func(ctx context.Context, tx pgx.Tx, events []systems.Event) error {
			for i := range events {
				events[i].Key = keyed(events[i].Key)
			}
			return e.Systems[0].Publish(ctx, tx, events)
		})
		if err != nil {
			return err
		}
		defer d.Close()
		sink, err := p.sink()
		if err != nil {
			return err
		}
		defer func() { _ = sink.Close() }()
		m.Begin()
		defer m.End()
		discarded, err := drain(ctx, d, "discard", discarding{sink}, "nowhere", n)
		if err != nil {
			return fmt.Errorf("discard: %w", err)
		}
		bare, err := p.alone(ctx, n, inFlight, keyed)
		if err != nil {
			return fmt.Errorf("the client alone: %w", err)
		}
		destination, err := p.reset(ctx)
		if err != nil {
			return err
		}
		relayed, err := drain(ctx, d, "relay", sink, destination, n)
		if err != nil {
			return err
		}
		m.Set("rate", relayed)
		m.Set("bare", bare)
		m.Set("discard", discarded)
		m.Set("share", relayed*(1/discarded+1/bare))
		return nil
	}
}

// latency measures the client, then the relay, at a rate.
func (p *place) latency(e *stage.Env, perSecond float64) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) (err error) {
		alone, err := p.aloneAt(ctx, perSecond, e.Duration)
		if err != nil {
			return fmt.Errorf("the client alone: %w", err)
		}
		destination, err := p.reset(ctx)
		if err != nil {
			return err
		}
		sink, err := p.sink()
		if err != nil {
			return err
		}
		defer func() { _ = sink.Close() }()
		d, err := e.Open(ctx, e.Systems[0])
		if err != nil {
			return err
		}
		defer d.Close()
		service := stage.NewService(d, e.Systems[0], stage.SteadyProducers, perSecond)
		r, err := startRelay(ctx, d, "relay", sink, destination, func(m *relay.Message) { _ = service.Handle(ctx, m.Event.Payload) })
		if err != nil {
			return err
		}
		defer func() { _ = r.stop() }()
		span, err := observe(ctx, e, m, service)
		if err != nil {
			return err
		}
		if err := r.wrong(); err != nil {
			return err
		}
		latencies(m, span)
		m.Set("client50", alone.Milliseconds(50))
		m.Set("client99", alone.Milliseconds(99))
		m.Set("above", span.Milliseconds(50)-2*alone.Milliseconds(50))
		return nil
	}
}

// latencies sets what is said of a service.
func latencies(m *stage.Measurement, span *stage.Span) {
	m.Set("p50", span.Milliseconds(50))
	m.Set("p99", span.Milliseconds(99))
	m.Set("rate", span.Out)
}

// observe has a service run for a while, the worker of which is there.
func observe(ctx context.Context, e *stage.Env, m *stage.Measurement, service *stage.Service) (span *stage.Span, err error) {
	if err := service.First(ctx, &service.Handled); err != nil {
		return nil, err
	}
	return span, service.While(ctx, func() error {
		if err := stage.Pause(ctx, e.Duration/4); err != nil {
			return err
		}
		m.Begin()
		defer m.End()
		span, err = service.Observe(ctx, e.Duration)
		return err
	})
}
