package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/doctor"
	"github.com/signalbox-go/signalbox/internal/plain"
)

type doctorCommand struct {
	OldTransaction time.Duration `env:"-" default:"5m" help:"How long a transaction may be open."`
	Forgotten      time.Duration `env:"-" default:"1h" help:"How old the oldest event may be that a subscription has yet to handle."`
	asJSON
	cli.Database
}

// Help is what "outbox doctor --help" explains.
func (*doctorCommand) Help() string {
	return `Looks for what is wrong with a database, and says what to do about each finding. It mends nothing.

	outbox doctor
	outbox doctor --json | jq -r '.checks[].findings[].problem'
	outbox doctor --forgotten 24h || notify-operator

	server          PostgreSQL's version, and that it is the primary
	connection      tries LISTEN, NOTIFY and session locks: a pooling proxy breaks them
	schema          its version is this program's
	columns         of outbox.events, on which the proof that nothing is lost relies
	sequence        it caches no ids
	trigger         the doorbell is there, enabled and unchanged
	cluster         the log is from here, its ids do not go back, and no row is hidden
	transactions    idle, long and prepared ones
	vacuum          autovacuum is on, and gets on
	subscriptions   none is forgotten, paused or stuck with old events

At its end, it says which versions of schema and programs work together, and which features are used and known.

Run it with the DATABASE_URL that workers have: what it finds about the connection is about that. Without the privileges of
pg_monitor it does not see how long other roles' transactions are open. That no worker runs is no finding.

Exit codes: 0 healthy, 1 there are findings, 2 it could not look.`
}

// exitUnchecked is doctor's code for not knowing.
const exitUnchecked = 2

func (d *doctorCommand) Run(ctx context.Context, c *console) error {
	report, err := d.examine(ctx)
	if err != nil && ctx.Err() == nil {
		return &cli.ExitError{Code: exitUnchecked, Err: err}
	}
	if err != nil {
		return err
	}
	if d.JSON {
		err = c.print(report)
	} else {
		err = c.write(reportText(report))
	}
	if n := report.Findings(); err == nil && n > 0 {
		err = errors.New(plural(int64(n), "finding", "findings"))
	}
	return err
}

func (d *doctorCommand) examine(ctx context.Context) (*doctor.Report, error) {
	if d.OldTransaction <= 0 || d.Forgotten <= 0 {
		return nil, &cli.UsageError{Err: errors.New("--old-transaction and --forgotten are durations above 0")}
	}
	pool, err := cli.Connect(ctx, d.DatabaseURL) // for its errors
	if err != nil {
		return nil, err
	}
	config := pool.Config().ConnConfig
	pool.Close()
	return doctor.Examine(ctx, config, doctor.Config{Outbox: d.Outbox, OldTransaction: d.OldTransaction, Forgotten: d.Forgotten})
}

func reportText(r *doctor.Report) string {
	var b strings.Builder
	for _, c := range r.Checks {
		switch {
		case c.Skipped != "":
			fmt.Fprintf(&b, "-  %s: not looked at, %s\n", c.Name, plain.Line(c.Skipped))
		case len(c.Findings) == 0:
			fmt.Fprintf(&b, "✔  %s\n", c.Name)
		}
		for _, f := range c.Findings {
			fmt.Fprintf(&b, "✘  %s: %s\n   → %s\n", c.Name, plain.Quote(f.Problem), plain.Quote(f.Remedy))
		}
	}
	if r.Versions != nil {
		b.WriteString(versionsText(r.Versions))
	}
	return b.String()
}

// versionsText is the matrix of what works together.
func versionsText(v *doctor.Versions) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nschema    version %d, serves programs from version %d on\nprogram   version %d, works with schemas from version %d on\n", v.Schema, v.Serves, v.Newest, v.Oldest)
	for _, f := range v.Features {
		use, known := "not used", "known by all workers"
		if f.UsedSince != nil {
			use = "used since " + clock(*f.UsedSince)
		}
		if len(f.Unknown) > 0 {
			known = "not known by " + plain.Quote(strings.Join(f.Unknown, ", "))
		}
		fmt.Fprintf(&b, "feature   %s: %s, %s\n", plain.Quote(f.Name), use, known)
	}
	return b.String()
}
