package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

// crowdRate is how many events a second the crowds of subscriptions get, apart from full speed.
const crowdRate = 100

// Connections of a worker, however many subscriptions it has: of its session, of its pool for what may wait, and of the sentinel among workers.
const sessionConnections, poolConnections, sentinelConnections = 3, 2, 2

// A crowd is the subscriptions of one service.
type crowd struct {
	subscriptions, workers int
	all                    bool // each sees every event; else each has a topic of its own
}

var crowds = []crowd{
	{1, 1, false},
	{10, 1, false},
	{40, 1, false},
	{100, 1, false},
	{10, 1, true},
	{40, 1, true},
	{100, 1, true},
	{40, 3, false},
}

func (c crowd) String() string {
	name := subscriptionsCase(c.subscriptions)
	if c.workers > 1 {
		name += fmt.Sprintf(" of %d workers", c.workers)
	}
	switch {
	case c.subscriptions == 1:
		return name
	case c.all:
		return name + ", all events"
	}
	return name + ", a topic each"
}

// topic is that of the n-th subscription.
func (c crowd) topic(n int) string {
	if c.all {
		return systems.Topic
	}
	return fmt.Sprintf("%s.%d", systems.Topic, n)
}

func (c crowd) names() []string {
	names := subscriptionNames(c.subscriptions)
	for i := range names {
		names[i] = systems.WithTopic(names[i], c.topic(i))
	}
	return names
}

// kinds are the names of what a system without fan-out has in place of subscriptions that see everything.
func (c crowd) kinds() []string {
	names := subscriptionNames(c.subscriptions)
	for i := range names {
		names[i] = systems.WithTopic(names[i], fmt.Sprintf("%s.%d", systems.Topic, i))
	}
	return names
}

// publish writes the n-th event for one of the subscriptions, or for all of them: where each event has one consumer, one for each.
func (c crowd) publish(s systems.System) stage.PublishFunc {
	return func(ctx context.Context, tx pgx.Tx, n int64) error {
		e := stage.Event(n)
		if !c.all || s.Info().Fanout {
			e.Topic = c.topic(int(n % int64(c.subscriptions)))
			return s.Publish(ctx, tx, []systems.Event{e})
		}
		list := make([]systems.Event, c.subscriptions)
		for i := range list {
			list[i] = e
			list[i].Topic = fmt.Sprintf("%s.%d", systems.Topic, i)
		}
		return s.Publish(ctx, tx, list)
	}
}

func subscriptions() stage.Scenario {
	ref := func(c crowd, system, value string) report.Ref {
		return report.Ref{Case: c.String(), System: system, Value: value}
	}
	ours := func(c crowd, value string) report.Ref { return ref(c, systems.Signalbox, value) }
	one := crowds[0]
	s := stage.Scenario{
		Scenario: report.Scenario{
			Number: 18,
			Title:  "Subscriptions",
			Method: fmt.Sprintf(`One service with many subscriptions. At %d events/s, each event for one subscription or for all of them: latency of
each delivery, from just before the commit is sent to the start of the handler, what the server takes of a core, and the worker's connections.
Then 8 producers at full speed beside the worker, one domain row and one event in each transaction. River has a kind of job in
place of each subscription, and a job for each delivery, at its best settings.`, crowdRate),
			Columns: []report.Column{
				{Key: "p50", Title: "p50 ms"},
				{Key: "p99", Title: "p99 ms"},
				{Key: "server", Title: "server, cores"},
				{Key: "clients", Title: "clients, cores"},
				{Key: "connections", Title: "connections"},
				{Key: "full", Title: "full speed, tx/s"},
			},
		},
		Cells: func(e *stage.Env) []stage.Cell {
			var cells []stage.Cell
			for _, c := range crowds {
				for _, s := range ourselvesAnd(e, func(s systems.System) bool { return s.Info().Name == "river-best" }) {
					cells = append(cells, stage.Cell{Name: c.String(), System: s.Info().Name, Run: crowdCell(e, s, c)})
				}
			}
			return cells
		},
	}
	add := func(what string, of, against report.Ref, least, most float64) {
		s.Targets = append(s.Targets, report.Target{What: what, Of: of, Against: []report.Ref{against}, AtLeast: least, AtMost: most})
	}
	for _, c := range crowds[1:] {
		add(c.String()+": connections, against 1 subscription", ours(c, "connections"), ours(one, "connections"), 0, float64(c.workers))
	}
	for _, c := range crowds {
		s.Targets = append(s.Targets, report.Target{
			What: c.String() + ": connections", Of: ours(c, "connections"), AtMost: float64(c.workers*(sessionConnections+poolConnections) + sentinelConnections),
		})
	}
	topics, all := crowds[2], crowds[5]
	for _, value := range []string{"p50", "p99", "server"} {
		add(topics.String()+": "+value+", against 1", ours(topics, value), ours(one, value), 0, 1.3)
		add(topics.String()+": "+value+", against River", ours(topics, value), ref(topics, "river-best", value), 0, 1)
	}
	for _, value := range []string{"p50", "p99"} {
		add(all.String()+": "+value+", against 1", ours(all, value), ours(one, value), 0, 3)
		add(all.String()+": "+value+", against River", ours(all, value), ref(all, "river-best", value), 0, 1)
	}
	for c, least := range map[crowd]float64{crowds[1]: 0.95, crowds[2]: 0.90, crowds[3]: 0.85, crowds[4]: 0.90} {
		add(c.String()+": full speed, against 1", ours(c, "full"), ours(one, "full"), least, 0)
	}
	return s
}

func crowdCell(e *stage.Env, s systems.System, c crowd) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) (err error) {
		d, err := e.Open(ctx, s)
		if err != nil {
			return err
		}
		defer d.Close()
		names := c.names()
		if !s.Info().Fanout {
			names = c.kinds()
		}
		service := stage.NewService(d, s, 8, crowdRate)
		service.Publish = c.publish(s)
		for range c.workers {
			stop := stage.StartWorker(ctx, s, d, names, service.Handle)
			defer func() { err = errors.Join(err, stop()) }()
		}
		if err := service.First(ctx, &service.Handled); err != nil {
			return err
		}
		err = service.While(ctx, func() error {
			if err := stage.Pause(ctx, min(2*time.Second, e.Duration/4)); err != nil {
				return err
			}
			spent, err := e.Costs(ctx)
			if err != nil {
				return err
			}
			m.Begin()
			start := time.Now()
			span, err := service.Observe(ctx, e.Duration)
			m.End()
			if err != nil {
				return err
			}
			span.Report(m)
			if s.Info().Name == systems.Signalbox {
				var n float64
				if err := d.Pool.QueryRow(ctx, `select count(*) from pg_stat_activity where datname = current_database() and application_name like 'signalbox%'`).Scan(&n); err != nil {
					return err
				}
				m.Set("connections", n)
			}
			return e.Cost(ctx, m, spent, 1e6*time.Since(start).Seconds()) // so the costs are in cores
		})
		if err != nil {
			return err
		}
		service.PerSecond = 0
		return service.While(ctx, func() error {
			if err := stage.Pause(ctx, min(time.Second, e.Duration/8)); err != nil {
				return err
			}
			before, start := service.Committed.Load(), time.Now()
			if err := stage.Pause(ctx, e.Duration/2); err != nil {
				return err
			}
			m.Set("full", float64(service.Committed.Load()-before)/time.Since(start).Seconds())
			return nil
		})
	}
}
