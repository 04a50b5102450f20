package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

func workersCase(n int) string {
	if n == 1 {
		return "1 worker"
	}
	return fmt.Sprintf("%d workers", n)
}

func idle() stage.Scenario {
	s := stage.Scenario{
		Scenario: report.Scenario{
			Number: 7,
			Title:  "Idle",
			Method: `Worker processes with one subscription and nothing to do, five seconds after their start. Statements are counted by
pg_stat_statements, begin and commit among them, and are for each worker. Processor time is in thousandths of a core:
of the server as a whole, its background processes included, and of the workers together. One round.`,
			Columns: []report.Column{
				{Key: "statements", Title: "statements/s each"}, {Key: "server", Title: "server, ‰ of a core"}, {Key: "workers", Title: "workers, ‰ of a core"},
			},
		},
		Once: true,
		Cells: func(e *stage.Env) []stage.Cell {
			var cells []stage.Cell
			for _, workers := range []int{1, 20} {
				for _, s := range e.Systems {
					cells = append(cells, stage.Cell{Name: workersCase(workers), System: s.Info().Name, Run: idleCell(e, s, workers)})
				}
			}
			return cells
		},
	}
	for _, workers := range []int{1, 20} {
		s.Targets = append(s.Targets, report.Target{
			What: workersCase(workers), Of: report.Ref{Case: workersCase(workers), System: systems.Signalbox, Value: "statements"},
			AtMost: 2, Unit: "statements/s each",
		})
	}
	return s
}

func idleCell(e *stage.Env, s systems.System, workers int) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		d, err := e.Open(ctx, s)
		if err != nil {
			return err
		}
		defer d.Close()
		watch, err := watchStatements(ctx, e, d)
		if err != nil {
			return err
		}
		defer watch.conn.Close(ctx)
		c, err := e.StartCrew(ctx, d, s, workers, stage.Work{})
		if err != nil {
			return err
		}
		defer c.Kill()
		if err := c.Begin(); err != nil {
			return err
		}
		if err := stage.Pause(ctx, 5*time.Second); err != nil {
			return err
		}
		before, err := countIdle(ctx, e, watch, c)
		if err != nil {
			return err
		}
		m.Begin()
		if err := stage.Pause(ctx, max(5*time.Second, e.Duration/2)); err != nil {
			return err
		}
		m.End()
		after, err := countIdle(ctx, e, watch, c)
		if err != nil {
			return err
		}
		seconds := after.at.Sub(before.at).Seconds()
		m.Set("statements", (after.statements-before.statements)/seconds/float64(workers))
		m.Set("server", 1000*(after.server-before.server)/seconds)
		m.Set("workers", 1000*(after.workers-before.workers)/seconds)
		return c.Stop()
	}
}

// A watch counts the statements of a database, over a connection to another one.
type watch struct {
	conn     *pgx.Conn
	database string
}

// watchStatements begins to count the statements of connections that are yet to be made. Nothing is counted elsewhere, so the
// module costs the other scenarios nothing.
func watchStatements(ctx context.Context, e *stage.Env, d *stage.Database) (*watch, error) {
	conn, err := pgx.Connect(ctx, e.Server.URL("postgres"))
	if err != nil {
		return nil, err
	}
	var loaded bool
	err = conn.QueryRow(ctx, `select current_setting('shared_preload_libraries') like '%pg_stat_statements%'`).Scan(&loaded)
	if err == nil && !loaded {
		err = errors.New("pg_stat_statements is not there: install PostgreSQL's contrib modules")
	}
	if err == nil {
		_, err = conn.Exec(ctx, `create extension if not exists pg_stat_statements; alter database `+d.Name+` set pg_stat_statements.track = 'top'`)
	}
	if err != nil {
		conn.Close(ctx)
		return nil, fmt.Errorf("count statements: %w", err)
	}
	return &watch{conn, d.Name}, nil
}

type idleCounts struct {
	at              time.Time
	statements      float64
	server, workers float64 // seconds of the processor
}

func countIdle(ctx context.Context, e *stage.Env, w *watch, c stage.Crew) (*idleCounts, error) {
	counts := &idleCounts{at: time.Now()}
	err := w.conn.QueryRow(ctx, `
		select coalesce(sum(s.calls), 0) from pg_stat_statements s join pg_database d on d.oid = s.dbid where d.datname = $1`, w.database).Scan(&counts.statements)
	if err != nil {
		return nil, err
	}
	if counts.server, err = measure.TreeTime(e.Server.Pid()); err != nil {
		return nil, err
	}
	for _, p := range c {
		seconds, err := measure.TreeTime(p.Cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		counts.workers += seconds
	}
	return counts, nil
}
