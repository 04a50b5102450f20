package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox"
)

type migrateCommand struct {
	Set string `default:"both" enum:"both,outbox,signals" placeholder:"SET" help:"Which schema: outbox, signals (the producer's own table), or both, which is the default."`
	cli.Database
}

// Help is what "outbox migrate --help" explains.
func (*migrateCommand) Help() string {
	return `Creates the schema, or upgrades it to this program's version. Safe to run at any time and from any number of processes.

	DATABASE_URL=postgres://user:password@host/database outbox migrate

An application that embeds Signalbox needs the outbox alone:

	outbox migrate --set outbox

After a restore from a dump into another PostgreSQL, it also adopts the log: transaction ids that were stored there mean
nothing here. Workers refuse to start before. Stop the producers for that time.

The same files work with tern itself: see the folders of migrations.`
}

func (c *migrateCommand) run(ctx context.Context, stdout io.Writer) error {
	pool, err := cli.Connect(ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	sets := map[string][]migrations.Set{
		"both": bothSets, "outbox": {migrations.Outbox}, "signals": {migrations.Signals},
	}
	return migrate(ctx, pool, sets[c.Set], stdout)
}

var bothSets = []migrations.Set{migrations.Outbox, migrations.Signals}

// migrate brings the sets up to date and writes a line for each.
func migrate(ctx context.Context, pool *pgxpool.Pool, sets []migrations.Set, report io.Writer) error {
	// All over one connection: tern's lock is the session's.
	return pool.AcquireFunc(ctx, func(pooled *pgxpool.Conn) error {
		conn := pooled.Conn()
		for _, set := range sets {
			if err := upgrade(ctx, conn, set, report); err != nil {
				return err
			}
			if set != migrations.Outbox {
				continue
			}
			adopted, err := outbox.Adopt(ctx, conn)
			if err != nil {
				return err
			}
			if adopted {
				fmt.Fprintln(report, "outbox: came from another cluster, and was adopted")
			}
		}
		return nil
	})
}

// upgrade brings one set up to date.
func upgrade(ctx context.Context, conn *pgx.Conn, set migrations.Set, report io.Writer) error {
	// Who asks before may be overtaken by another process. What was missing then is there afterwards, by whoever's hand.
	var old *migrations.VersionError
	if err := set.Check(ctx, conn); err != nil && !errors.As(err, &old) {
		return err
	}
	if err := set.Up(ctx, conn); err != nil {
		return err
	}
	if old == nil {
		fmt.Fprintf(report, "%s: up to date\n", set)
	} else {
		fmt.Fprintf(report, "%s: from version %d to %d\n", set, old.Have, old.Want)
	}
	return nil
}
