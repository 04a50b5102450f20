package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/relay"
)

// A keying makes the key of a message of the event's.
type keying func(key string) string

func asPublished(key string) string { return key }
func ofOneKey(string) string        { return "hot" }

// messages returns what makes messages such as the relay's, by number. What differs between them is their id, key and payload.
func (p *place) messages(destination string, keyed keying) (func(n int64) *relay.Message, error) {
	sink, err := p.sink()
	if err != nil {
		return nil, err
	}
	defer func() { _ = sink.Close() }()
	encoder, err := relay.NewEncoder(sink, relay.Config{
		Source: source,
		Route: func(e *outbox.Event) (relay.Route, error) {
			return relay.Route{Destination: destination, Key: e.Key}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	first := stage.Event(0)
	pattern, err := encoder.Message(&outbox.Event{
		ID: 1, UID: messageID(0), Topic: systems.Topic, Key: keyed(first.Key), Payload: first.Payload, PublishedAt: time.Now(),
	})
	if err != nil {
		return nil, err
	}
	return func(n int64) *relay.Message {
		m, e := *pattern, stage.Event(n)
		m.ID, m.Key, m.Body = messageID(n), keyed(e.Key), e.Payload
		return &m
	}, nil
}

// messageID is as long as a UID.
func messageID(n int64) string { return fmt.Sprintf("00000000-0000-7000-8000-%012x", n) }

// alone has the client send n messages, and returns how many it sends in a second.
func (p *place) alone(ctx context.Context, n int64, inFlight int, keyed keying) (float64, error) {
	destination, err := p.reset(ctx)
	if err != nil {
		return 0, err
	}
	message, err := p.messages(destination, keyed)
	if err != nil {
		return 0, err
	}
	c, err := p.bare()
	if err != nil {
		return 0, err
	}
	defer c.close()
	if err := sendOne(ctx, c, message(n)); err != nil { // it is connected
		return 0, err
	}
	slots := make(chan struct{}, inFlight)
	var fault atomic.Pointer[error]
	start := time.Now()
	for i := range n {
		if err := take(ctx, slots); err != nil {
			return 0, err
		}
		c.send(ctx, message(i), func(err error) {
			if err != nil {
				fault.CompareAndSwap(nil, &err)
			}
			<-slots
		})
	}
	for range inFlight { // until all are acknowledged
		if err := take(ctx, slots); err != nil {
			return 0, err
		}
	}
	took := time.Since(start)
	if err := fault.Load(); err != nil {
		return 0, *err
	}
	return float64(n) / took.Seconds(), nil
}

func take(ctx context.Context, slots chan<- struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(stage.StuckAfter):
		return fmt.Errorf("no message was acknowledged for %v", stage.StuckAfter)
	}
}

func sendOne(ctx context.Context, c client, m *relay.Message) error {
	answer := make(chan error, 1)
	c.send(ctx, m, func(err error) { answer <- err })
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// aloneAt has the client send at a rate for a while, and returns how long acknowledgements took.
func (p *place) aloneAt(ctx context.Context, perSecond float64, d time.Duration) (*measure.Latencies, error) {
	destination, err := p.reset(ctx)
	if err != nil {
		return nil, err
	}
	message, err := p.messages(destination, asPublished)
	if err != nil {
		return nil, err
	}
	c, err := p.bare()
	if err != nil {
		return nil, err
	}
	defer c.close()
	n := max(1, int64(perSecond*d.Seconds()))
	if err := sendOne(ctx, c, message(n)); err != nil {
		return nil, err
	}
	latencies := measure.NewLatencies()
	answers := make(chan error, n)
	start := time.Now()
	for i := range n {
		if err := stage.Pause(ctx, time.Until(start.Add(time.Duration(float64(i)/perSecond*float64(time.Second))))); err != nil {
			return nil, err
		}
		sent := time.Now()
		c.send(ctx, message(i), func(err error) {
			latencies.Add(time.Since(sent))
			answers <- err
		})
	}
	for range n {
		select {
		case err := <-answers:
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return latencies, nil
}
