package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

const (
	ordinaryWorker = "an ordinary worker"
	sentinelWorker = "the sentinel"
	crowdedWorker  = "an ordinary worker of 40 subscriptions"
)

func takeover(kills int) stage.Scenario {
	of := func(name, value string) report.Ref {
		return report.Ref{Case: name, System: systems.Signalbox, Value: value}
	}
	return stage.Scenario{
		Scenario: report.Scenario{
			Number: 8,
			Title:  "Takeover",
			Method: `Two worker processes share the lanes, and 1,000 events a second arrive. One is killed (SIGKILL), again and again with a new one in
its place. Time is from the kill to the first event of its lanes that the other one handles. Of 40 subscriptions, one has events, and waits for the
others to be taken over before it, or not. One round. Of the others, those that hold a transaction
open while they work lose it with their connection; River waits an hour by default.`,
			Columns: []report.Column{
				{Key: "p50", Title: "p50 s"}, {Key: "min", Title: "least s"}, {Key: "p90", Title: "p90 s"}, {Key: "max", Title: "greatest s"}, {Key: "kills", Title: "kills"},
			},
		},
		Once: true,
		Cells: func(e *stage.Env) []stage.Cell {
			return []stage.Cell{
				{Name: ordinaryWorker, System: systems.Signalbox, Run: takeoverCell(e, false, kills, 1)},
				{Name: crowdedWorker, System: systems.Signalbox, Run: takeoverCell(e, false, kills, 40)},
				{Name: sentinelWorker, System: systems.Signalbox, Run: takeoverCell(e, true, kills, 1)},
			}
		},
		Targets: []report.Target{
			{What: "an ordinary worker: p50", Of: of(ordinaryWorker, "p50"), AtMost: 1.2, Unit: "s"},
			{What: "an ordinary worker: greatest", Of: of(ordinaryWorker, "max"), AtMost: 2.5, Unit: "s"},
			{What: crowdedWorker + ": p50, against one subscription", Of: of(crowdedWorker, "p50"), Against: []report.Ref{of(ordinaryWorker, "p50")}, AtMost: 1.2},
			{What: "the sentinel: greatest", Of: of(sentinelWorker, "max"), AtMost: 4, Unit: "s"},
		},
	}
}

func takeoverCell(e *stage.Env, sentinel bool, kills, subscriptions int) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		ours := e.Systems[0]
		d, err := e.Open(ctx, ours)
		if err != nil {
			return err
		}
		defer d.Close()
		pair, err := newPair(ctx, e, d, subscriptions)
		if err != nil {
			return err
		}
		defer pair.crew().Kill()
		t := &stage.Traffic{Pool: d.Pool, Publish: stage.PublishBy(ours), Producers: 4, PerSecond: 1000}
		return t.While(ctx, func() error {
			times := measure.NewLatencies()
			m.Begin()
			for range kills {
				took, err := pair.kill(ctx, sentinel)
				if err != nil {
					return err
				}
				times.Add(took)
				if err := pair.replace(ctx); err != nil {
					return err
				}
			}
			m.End()
			for key, percentile := range map[string]float64{"min": 0, "p50": 50, "p90": 90, "max": 100} {
				m.Set(key, times.Milliseconds(percentile)/1000)
			}
			m.Set("kills", float64(kills))
			return nil
		})
	}
}

// A pair is two worker processes, and what they handle.
type pair struct {
	env           *stage.Env
	d             *stage.Database
	subscriptions []string               // the last one has events
	members       map[int]*stage.Process // by pid
	lanes         [stage.Keys]int16      // of each key

	mu    sync.Mutex
	after time.Time        // deliveries before it do not count
	seen  map[int16]bool   // lanes that are waited for
	found chan<- time.Time // when the first event of one of them was handled
}

func newPair(ctx context.Context, e *stage.Env, d *stage.Database, subscriptions int) (*pair, error) {
	p := &pair{env: e, d: d, members: map[int]*stage.Process{}}
	for i := range subscriptions - 1 {
		p.subscriptions = append(p.subscriptions, systems.WithTopic(fmt.Sprintf("%s-%d", systems.DefaultSubscription, i), fmt.Sprintf("%s.%d", systems.Topic, i)))
	}
	p.subscriptions = append(p.subscriptions, systems.DefaultSubscription)
	rows, _ := d.Pool.Query(ctx, `select (hashtext('key-' || i) & 63)::smallint from generate_series(0, $1) as i order by i`, stage.Keys-1)
	lanes, err := pgx.CollectRows(rows, pgx.RowTo[int16])
	if err != nil {
		return nil, err
	}
	copy(p.lanes[:], lanes)
	return p, errors.Join(p.replace(ctx), p.replace(ctx))
}

func (p *pair) crew() stage.Crew { return slices.Collect(maps.Values(p.members)) }

// replace starts one more process.
func (p *pair) replace(ctx context.Context) error {
	next, err := p.env.StartProcess(ctx, p.d, p.env.Systems[0], stage.Work{Subscriptions: p.subscriptions}, p.handled)
	if err != nil {
		return err
	}
	p.members[next.Cmd.Process.Pid] = next
	return next.Begin()
}

// handled hears of each event that one of them handles.
func (p *pair) handled(n int64, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil && at.After(p.after) && p.seen[p.lanes[n%stage.Keys]] {
		p.found <- at
		p.found = nil
	}
}

// kill waits until the two share the lanes, kills one, and returns how long its lanes were unattended.
func (p *pair) kill(ctx context.Context, sentinel bool) (time.Duration, error) {
	var victim *stage.Process
	var lanes []int16
	err := stage.Await(ctx, time.Minute, "two workers share the lanes", func() (shared bool) {
		victim, lanes, shared = p.victim(ctx, sentinel)
		return shared
	})
	if err != nil {
		return 0, err
	}
	if err := stage.Pause(ctx, time.Second); err != nil { // so that the first windows are behind it
		return 0, err
	}
	found := make(chan time.Time, 1)
	delete(p.members, victim.Cmd.Process.Pid)
	start := time.Now()
	victim.Kill()
	// From here on it is the other one that handles: what the killed one told before has been read.
	p.mu.Lock()
	p.after, p.found, p.seen = start, found, map[int16]bool{}
	for _, lane := range lanes {
		p.seen[lane] = true
	}
	p.mu.Unlock()
	select {
	case at := <-found:
		return at.Sub(start), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(stage.StuckAfter):
		return 0, fmt.Errorf("nothing of the killed worker's lanes was handled within %v", stage.StuckAfter)
	}
}

// victim returns whom to kill and its lanes, once both own half of the lanes.
func (p *pair) victim(ctx context.Context, sentinel bool) (*stage.Process, []int16, bool) {
	status, err := admin.GetStatus(ctx, p.d.Pool)
	if err != nil || len(status.Workers) != 2 || status.Workers[0].Sentinel == status.Workers[1].Sentinel {
		return nil, nil, false
	}
	for _, w := range status.Workers {
		var (
			owned int
			lanes []int16
		)
		err := p.d.Pool.QueryRow(ctx, `
			select count(*), array_agg(l.lane) filter (where s.name = $2)
			from outbox.lanes l join outbox.subscriptions s on s.id = l.subscription_id
			where l.owner = $1`, w.ID, systems.DefaultSubscription).Scan(&owned, &lanes)
		if err != nil || owned != len(p.subscriptions)*engine.Lanes/2 || len(lanes) != engine.Lanes/2 {
			return nil, nil, false
		}
		if w.Sentinel != sentinel {
			continue
		}
		for pid, process := range p.members {
			if strings.HasSuffix(w.Name, fmt.Sprintf(":%d", pid)) {
				return process, lanes, true
			}
		}
	}
	return nil, nil, false
}
