package scenarios

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/systems"
)

const rawSelect = "raw select"

func drain() scenario {
	rate := func(system string) report.Ref {
		return report.Ref{Case: processesCase(1), System: system, Value: "rate"}
	}
	return scenario{
		Scenario: report.Scenario{
			Number: 3,
			Title:  "Drain",
			Method: `A backlog, vacuumed and analyzed, is handled by one worker process, and by two (the others at their best settings). Handlers do nothing. The rate is
from when the first events were handled to the last one, without those first; "start" is the time before, from telling idle processes to begin.
Slow systems get fewer events: rates are compared. "Raw select"
reads the columns of Signalbox's events once, in no order, over one connection of pgx, and scans them into Go variables: about the most that
any reader in Go could do.`,
			Columns: append([]report.Column{{Key: "rate", Title: "events/s"}, {Key: "start", Title: "start ms"}, {Key: "events", Title: "events"}},
				costColumns("event")...),
		},
		cells: func(e *env) []cell {
			cells := []cell{{processesCase(1), rawSelect, e.rawSelect}}
			for _, s := range e.Systems {
				cells = append(cells, cell{processesCase(1), s.Info().Name, e.drainCell(s, 1)})
			}
			for _, s := range e.ourselvesAnd(best) {
				cells = append(cells, cell{processesCase(2), s.Info().Name, e.drainCell(s, 2)})
			}
			return cells
		},
		targets: []report.Target{
			{What: "one process", Of: rate(systems.Signalbox), AtLeast: 300_000, Unit: "events/s"},
			{
				What: "against River's best", Of: rate(systems.Signalbox), AtLeast: 10, Unit: "times the rate",
				Against: []report.Ref{rate("river"), rate("river-best")},
			},
			{
				What: "against watermill-sql's best", Of: rate(systems.Signalbox), AtLeast: 3, Unit: "times the rate",
				Against: []report.Ref{rate("watermill"), rate("watermill-best")},
			},
			{What: "against the raw select", Of: rate(systems.Signalbox), Against: []report.Ref{rate(rawSelect)}, AtLeast: 0.6, Unit: "of the rate"},
		},
	}
}

func processesCase(n int) string {
	if n == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", n)
}

// backlog is how many events a system that drains so many a second gets: slow ones may take about ten seconds, or as long as a
// steady state is measured.
func (e *env) backlog(perSecond float64) int64 {
	return int64(min(float64(e.Events), max(100, perSecond*min(10*time.Second, e.Duration).Seconds())))
}

func (e *env) drainCell(s systems.System, processes int) func(context.Context, *measurement) error {
	return func(ctx context.Context, m *measurement) error {
		n := e.backlog(s.Info().Rate)
		d, err := e.filled(ctx, s, n)
		if err != nil {
			return err
		}
		defer d.close()
		return e.drained(ctx, m, d, s, processes, work{}, n)
	}
}

// drained has worker processes handle n deliveries, all there are in a database, and sets rate, start and events.
func (e *env) drained(ctx context.Context, m *measurement, d *database, s systems.System, processes int, o work, n int64) error {
	c, err := e.startCrew(ctx, d, s, processes, o)
	if err != nil {
		return err
	}
	defer c.kill()
	spent, err := e.costs(ctx)
	if err != nil {
		return err
	}
	m.begin()
	start := time.Now()
	if err := c.begin(); err != nil {
		return err
	}
	end, err := c.handle(ctx, n)
	m.end()
	if err != nil {
		return err
	}
	if err := e.cost(ctx, m, spent, float64(n)); err != nil {
		return err
	}
	if err := c.stop(); err != nil {
		return err
	}
	if handled := c.handled(); handled != n {
		return fmt.Errorf("%d events were handled of %d", handled, n)
	}
	early, from := c.first()
	m.set("start", float64(from.Sub(start))/float64(time.Millisecond))
	if early > n/2 { // too few events to leave the first out
		early, from = 0, start
	}
	m.set("rate", float64(n-early)/end.Sub(from).Seconds())
	m.set("events", float64(n))
	return nil
}

// rawSelect reads all events over one connection.
func (e *env) rawSelect(ctx context.Context, m *measurement) error {
	ours, n := e.Systems[0], int64(e.Events)
	d, err := e.filled(ctx, ours, n)
	if err != nil {
		return err
	}
	defer d.close()
	conn, err := pgx.Connect(ctx, d.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	spent, err := e.costs(ctx)
	if err != nil {
		return err
	}
	m.begin()
	start := time.Now()
	rows, _ := conn.Query(ctx, `select e.id, e.topic, e.key, e.payload, e.headers, e.published_at from outbox.events e`)
	var (
		id               int64
		topic, key       string
		payload, headers []byte
		at               time.Time
		read             int64
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &topic, &key, &payload, &headers, &at}, func() error { read++; return nil })
	took := time.Since(start)
	m.end()
	if err != nil {
		return err
	}
	if read != n {
		return fmt.Errorf("%d events were read of %d", read, n)
	}
	m.set("rate", float64(n)/took.Seconds())
	m.set("events", float64(n))
	return e.cost(ctx, m, spent, float64(n))
}

// batch is how many events a transaction of a bulk load has.
const batch = 1000

// filled returns a database with a backlog of n events.
func (e *env) filled(ctx context.Context, s systems.System, n int64) (*database, error) {
	return e.filledBy(ctx, s, n, s.Publish)
}

// filledBy is filled for events that are published in a way of their own.
func (e *env) filledBy(ctx context.Context, s systems.System, n int64, publish bulkFunc) (*database, error) {
	d, err := e.open(ctx, s)
	if err != nil {
		return nil, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for from := int64(0); from < n; from += batch {
		group.Go(func() error { return publishBatch(groupCtx, d, publish, from, min(from+batch, n)) })
	}
	if err = group.Wait(); err == nil {
		err = d.calm(ctx)
	}
	if err != nil {
		d.close()
		return nil, fmt.Errorf("make a backlog: %w", err)
	}
	return d, nil
}

// A bulkFunc writes many events in a transaction.
type bulkFunc func(ctx context.Context, tx pgx.Tx, events []systems.Event) error

// publishBatch publishes events in one transaction.
func publishBatch(ctx context.Context, d *database, publish bulkFunc, from, to int64) error {
	return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error { return publish(ctx, tx, events(from, to)) })
}
