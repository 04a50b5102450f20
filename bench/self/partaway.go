package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// A partAway is a case in which what handlers call is away for a part of the events.
type partAway struct {
	name           string
	away, others   int64 // events of either part, a second
	topic          string
	key, othersKey func(n int64) string
	most           []partTarget // beside the p99 of the others, and dead letters
}

// A partTarget is what a value of such a case is at most.
type partTarget struct {
	what, value string
	most        float64
	unit        string
}

// tenantKeys is how many keys a tenant has.
const tenantKeys = 60

// partsAway returns the cases.
func partsAway() []partAway {
	none := func(int64) string { return "" }
	each := func(prefix string) func(int64) string { return func(n int64) string { return fmt.Sprint(prefix, n) } }
	ofTopic := []partTarget{{"rows", "rows", 1_000_000, ""}, {"rows with a copy", "copies", 64_000, ""}, {"attempts counted", "attempts", 1, ""}}
	return []partAway{
		{name: "one of two topics, a key for each event", away: 250, others: 250, topic: specialTopic, key: each("away-"), othersKey: each("other-"), most: ofTopic},
		{name: "one of two topics, no keys", away: 250, others: 250, topic: specialTopic, key: none, othersKey: none, most: ofTopic},
		{name: "a tenant with 19 of 20 events, a topic of its own", away: 475, others: 25, topic: specialTopic, key: each("away-"), othersKey: each("other-"), most: ofTopic},
		{
			name: "a tenant with 19 of 20 events, 60 keys of one topic", away: 475, others: 25, topic: systems.Topic,
			key: func(n int64) string { return fmt.Sprint("away-", n%tenantKeys) }, othersKey: each("other-"),
			most: []partTarget{{"rows", "rows", 200 * tenantKeys, ""}, {"longest stall", "stall", 1000, "ms"}},
		},
	}
}

// A partWasAway is what was measured of a partAway.
type partWasAway struct {
	span                      *stage.Span // of the others
	stall                     time.Duration
	rows, copies, bytes, dead int64
	attempts                  int64 // that an event has counted, at most
	drained                   time.Duration
	failed                    atomic.Int64 // calls
}

// compare compares the others with a run in which the subscription does not have what is away.
func (c *partAway) compare(ctx context.Context, e *stage.Env, m *stage.Measurement, s scale) error {
	m.Begin()
	defer m.End()
	with, err := c.measure(ctx, e, s, c.topic)
	if err != nil {
		return err
	}
	without, err := c.measure(ctx, e, s, unheardTopic)
	if err != nil {
		return fmt.Errorf("without what is away: %w", err)
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

func (c *partAway) measure(ctx context.Context, e *stage.Env, s scale, topic string) (t *partWasAway, err error) {
	ours := e.Systems[0]
	d, err := e.Open(ctx, ours)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	o := &others{Service: stage.NewService(d, ours, stage.SteadyProducers, float64(c.others)), distinct: stage.NewDistinct(1 << 21)}
	o.Publish = func(ctx context.Context, tx pgx.Tx, n int64) error {
		e := stage.Event(n)
		e.Key = c.othersKey(n)
		return ours.Publish(ctx, tx, []systems.Event{e})
	}
	t = &partWasAway{}
	var away atomic.Bool
	handled := stage.NewDistinct(1 << 21)
	w, err := worker.New(d.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	sub := worker.Subscription{Name: systems.DefaultSubscription, Topics: []string{systems.Topic, specialTopic}}
	err = worker.Handle(w, sub, func(ctx context.Context, e *effectEvent) error {
		switch {
		case e.Topic != specialTopic && !strings.HasPrefix(e.Key, "away-"):
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
		const some = 25
		ticks := time.NewTicker(time.Second * some / time.Duration(c.away))
		defer ticks.Stop()
		for start := time.Now(); time.Since(start) < lasts; {
			events := make([]outbox.Event, some)
			for i := range events {
				events[i] = outbox.Event{Topic: topic, Key: c.key(published), Payload: fmt.Appendf(nil, `{"n":%d}`, published)}
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
		if topic == unheardTopic {
			return nil
		}
		over := time.Now()
		err = stage.Await(ctx, 10*time.Minute, "all that was away is handled", func() bool { return handled.Count.Load() == published })
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
