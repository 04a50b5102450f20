package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

// relayInFlight is how many messages a relay has in flight by default.
const relayInFlight = 1000

const source = "https://bench.example"

// A running is a relay that runs in this process.
type running struct {
	relay.Sink
	each  func(m *relay.Message) // is told of each acknowledgement
	began sync.Once
	start time.Time // when the first message came
	fault atomic.Pointer[error]
	end   func() error
}

// startRelay starts one that sends to a destination.
func startRelay(ctx context.Context, d *stage.Database, name string, sink relay.Sink, destination string, each func(m *relay.Message)) (*running, error) {
	r := &running{Sink: sink, each: each}
	w, err := worker.New(d.Pool, worker.Config{Logger: systems.Quiet})
	if err != nil {
		return nil, err
	}
	err = relay.Handle(w, worker.Subscription{Name: name, Topics: []string{systems.Topic}}, r, relay.Config{
		Source: source,
		Route: func(e *outbox.Event) (relay.Route, error) {
			return relay.Route{Destination: destination, Key: e.Key}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	r.end = sync.OnceValue(func() error { cancel(); return <-ended })
	return r, nil
}

// AttributePrefix is that of the sink.
func (r *running) AttributePrefix() string {
	if p, ok := r.Sink.(relay.AttributePrefix); ok {
		return p.AttributePrefix()
	}
	return "ce-"
}

// Send counts what the sink acknowledges.
func (r *running) Send(ctx context.Context, m *relay.Message, done func(error)) {
	r.began.Do(func() { r.start = time.Now() })
	r.Sink.Send(ctx, m, func(err error) {
		if err != nil {
			r.fault.CompareAndSwap(nil, &err)
		} else {
			r.each(m)
		}
		done(err)
	})
}

// wrong returns the first answer that was none to be expected: nothing fails while something is measured.
func (r *running) wrong() error {
	if fault := r.fault.Load(); fault != nil {
		return fmt.Errorf("a message failed: %w", *fault)
	}
	return nil
}

func (r *running) stop() error { return r.end() }

// drain has a relay send a backlog of n events, and returns how many it sends in a second, from the first one on.
func drain(ctx context.Context, d *stage.Database, name string, sink relay.Sink, destination string, n int64) (float64, error) {
	var acknowledged, last atomic.Int64
	r, err := startRelay(ctx, d, name, sink, destination, func(*relay.Message) {
		last.Store(time.Now().UnixNano())
		acknowledged.Add(1)
	})
	if err != nil {
		return 0, err
	}
	err = stage.Progress(ctx, n, acknowledged.Load, r.wrong)
	if stopped := r.stop(); err == nil {
		err = stopped
	}
	if err != nil {
		return 0, err
	}
	if sent := acknowledged.Load(); sent != n {
		return 0, fmt.Errorf("%d messages were sent of %d", sent, n)
	}
	return float64(n) / time.Unix(0, last.Load()).Sub(r.start).Seconds(), nil
}

// discarding acknowledges at once, and sends nothing.
type discarding struct{ relay.Sink }

func (discarding) Send(_ context.Context, _ *relay.Message, done func(error)) { done(nil) }
