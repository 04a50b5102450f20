package stage

import (
	"context"
	"os"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/report"
)

// CostColumns are what m.cost sets.
func CostColumns(unit string) []report.Column {
	return []report.Column{
		{Key: "server", Title: "server µs/" + unit}, {Key: "clients", Title: "clients µs/" + unit}, {Key: "wal", Title: "WAL bytes/" + unit},
	}
}

// Costs are what was spent until some moment.
type Costs struct {
	server, all float64 // seconds of the processor: of PostgreSQL, and of it and everything else that the run started
	wal         float64 // bytes
}

// Costs returns what was spent until now.
func (e *Env) Costs(ctx context.Context) (c Costs, err error) {
	conn, err := pgx.Connect(ctx, e.Server.URL("postgres"))
	if err != nil {
		return c, err
	}
	defer conn.Close(ctx)
	if err = conn.QueryRow(ctx, `select (pg_current_wal_insert_lsn() - '0/0')::float8`).Scan(&c.wal); err != nil {
		return c, err
	}
	if c.server, err = measure.TreeTime(e.Server.Pid()); err != nil {
		return c, err
	}
	c.all, err = measure.TreeTime(os.Getpid())
	return c, err
}

// Cost sets what each of n things has cost since before. A rate that the processors limit is their number divided by this.
func (e *Env) Cost(ctx context.Context, m *Measurement, before Costs, n float64) error {
	after, err := e.Costs(ctx)
	if err != nil {
		return err
	}
	m.Set("server", 1e6*(after.server-before.server)/n)
	m.Set("clients", 1e6*(after.all-before.all-after.server+before.server)/n)
	m.Set("wal", (after.wal-before.wal)/n)
	return nil
}
