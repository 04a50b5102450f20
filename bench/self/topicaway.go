package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// topicRate is how many events a second each of two topics has.
const topicRate = 250

// Names of the cases in which what handlers call is away for one of two topics.
const (
	topicKeysCase   = "one of two topics, a key for each event"
	topicNoKeysCase = "one of two topics, no keys"
)

// A topicAway is what was measured while what handlers call was away for one of two topics.
type topicAway struct {
	span                      *stage.Span // of the other topic
	stall                     time.Duration
	rows, copies, bytes, dead int64
	attempts                  int64 // that an event has counted, at most
	drained                   time.Duration
	failed                    atomic.Int64 // calls
}

// topic compares the other topic with a run in which the subscription does not have the first one.
func topic(ctx context.Context, e *stage.Env, m *stage.Measurement, s scale, keyed bool) error {
	m.Begin()
	defer m.End()
	with, err := measureTopic(ctx, e, s, specialTopic, keyed)
	if err != nil {
		return err
	}
	without, err := measureTopic(ctx, e, s, unheardTopic, keyed)
	if err != nil {
		return fmt.Errorf("without the other topic: %w", err)
	}
	p99, p99Without := with.span.Milliseconds(99), without.span.Milliseconds(99)
	m.Set("p99", p99)
	m.Set("p99 without", p99Without)
	m.Set("p99 part", p99/p99Without)
	m.Set("stall", with.stall.Seconds()*1000)
	m.Set("rows", float64(with.rows))
	m.Set("copies", float64(with.copies))
	m.Set("megabytes", float64(with.bytes)/(1<<20))
	m.Set("attempts", float64(with.attempts))
	m.Set("calls", float64(with.failed.Load()))
	m.Set("drained", with.drained.Seconds())
	m.Set("dead", float64(with.dead))
	return nil
}

func measureTopic(ctx context.Context, e *stage.Env, s scale, name string, keyed bool) (t *topicAway, err error) {
	ours := e.Systems[0]
	d, err := e.Open(ctx, ours)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	key := func(topic string, n int64) string {
		if keyed {
			return fmt.Sprintf("%s-%d", topic, n)
		}
		return ""
	}
	o := &others{Service: stage.NewService(d, ours, stage.SteadyProducers, topicRate), distinct: stage.NewDistinct(1 << 21)}
	o.Publish = func(ctx context.Context, tx pgx.Tx, n int64) error {
		e := stage.Event(n)
		e.Key = key(systems.Topic, n)
		return ours.Publish(ctx, tx, []systems.Event{e})
	}
	t = &topicAway{}
	var away atomic.Bool
	handled := stage.NewDistinct(1 << 21)
	w, err := worker.New(d.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	sub := worker.Subscription{Name: systems.DefaultSubscription, Topics: []string{systems.Topic, specialTopic}}
	err = worker.Handle(w, sub, func(ctx context.Context, e *effectEvent) error {
		switch {
		case e.Topic != specialTopic:
			return o.handle(ctx, e.Payload)
		case away.Load():
			t.failed.Add(1)
			return errAway
		}
		handled.Add(stage.Sequence(e.Payload))
		return nil
	})
	if err != nil {
		return nil, err
	}
	stop := running(ctx, w)
	defer func() { err = errors.Join(err, stop()) }()
	if err := o.First(ctx, &o.Handled); err != nil {
		return nil, err
	}
	published := int64(0)
	publish := func(lasts time.Duration) error {
		const some = topicRate / 10
		ticks := time.NewTicker(time.Second * some / topicRate)
		defer ticks.Stop()
		for start := time.Now(); time.Since(start) < lasts; {
			events := make([]outbox.Event, some)
			for i := range events {
				events[i] = outbox.Event{Topic: name, Key: key(name, published), Payload: fmt.Appendf(nil, `{"n":%d}`, published)}
				published++
			}
			if _, err := outbox.Publish(ctx, d.Pool, events...); err != nil {
				return err
			}
			select {
			case <-ticks.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	err = o.While(ctx, func() error {
		if err := publish(warmUp(e)); err != nil {
			return err
		}
		away.Store(true)
		o.stalled.Store(0)
		var err error
		t.span, err = o.ObserveWhile(func() error { return publish(s.time(10*time.Minute, time.Second)) })
		t.stall = o.stall()
		if err != nil {
			return err
		}
		err = d.Pool.QueryRow(ctx, `
			select count(*), count(payload), pg_total_relation_size('outbox.deliveries'), coalesce(max(attempt), 0) from outbox.deliveries`).
			Scan(&t.rows, &t.copies, &t.bytes, &t.attempts)
		if err != nil {
			return err
		}
		away.Store(false)
		if name == unheardTopic {
			return nil
		}
		over := time.Now()
		err = stage.Await(ctx, 10*time.Minute, "all of the topic is handled", func() bool { return handled.Count.Load() == published })
		t.drained = time.Since(over)
		return err
	})
	if err == nil {
		err = o.finish(ctx)
	}
	if err == nil {
		t.dead, err = leftovers(ctx, d)
	}
	return t, err
}
