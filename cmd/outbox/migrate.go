package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
)

type migrateCommand struct {
	Set   string      `default:"both" enum:"both,outbox,signals" placeholder:"SET" help:"Which schema: outbox, signals (the producer's own table), or both, which is the default."`
	After engine.Move `enum:",pg_upgrade,restore,replication" default:"" placeholder:"MOVE" help:"Adopt an outbox that came from another server, and how: by pg_upgrade, restore (of a dump) or replication (logical, or a managed blue/green switch-over)."`
	asJSON
	cli.Database
}

// Help is what "outbox migrate --help" explains.
func (*migrateCommand) Help() string {
	return `Creates the schema, or upgrades it to this program's version. Safe to run at any time and from any number of processes.

	DATABASE_URL=postgres://user:password@host/database outbox migrate

An application that embeds Signalbox needs the outbox alone:

	outbox migrate --set outbox

Another outbox in the same database, with a schema, a log and workers of its own:

	outbox migrate --set outbox --outbox billing

An outbox that came from another server is not served until it is adopted. Say how it was moved:

	outbox migrate --after pg_upgrade      # transaction ids are checked, and cursors stay as they are
	outbox migrate --after restore         # of a dump: whole, or data alone into a migrated schema
	outbox migrate --after replication     # logical, or a managed blue/green switch-over

Without --after, it says how the outbox seems to have been moved, and changes nothing of it. Publishers may go on. See docs/moving.md.

Sequences that were set back are raised, with or without --after.

The same files work with tern itself, for the default outbox: see the folders of migrations.`
}

func (m *migrateCommand) Run(ctx context.Context, c *console) error {
	pool, err := cli.Connect(ctx, m.DatabaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	sets := map[string][]migrations.Set{
		"both": bothSets(m.Outbox), "outbox": {migrations.For(m.Outbox)}, "signals": {migrations.Signals},
	}
	done, err := migrate(ctx, pool, m.Outbox, sets[m.Set], m.After)
	switch {
	case err != nil:
		return err
	case m.JSON:
		return c.print(done)
	}
	return c.write(done.text())
}

func bothSets(o outbox.Outbox) []migrations.Set {
	return []migrations.Set{migrations.For(o), migrations.Signals}
}

// A migrated is what became of a database.
type migrated struct {
	Sets    []migratedSet `json:"sets"`
	Adopted bool          `json:"adopted"` // the log came from elsewhere
	Raised  bool          `json:"raised"`  // a sequence was behind its table
	// Republished is how many events were published meanwhile, below the cursors, and got new ids, of which FirstID is the lowest.
	Republished int64 `json:"republished"`
	FirstID     int64 `json:"first_id,omitempty"`
	// Native is that an adoption was asked for, and not needed.
	Native bool `json:"native"`
	// Blind is that the owner of the schema may not execute pg_control_system().
	Blind bool `json:"blind"`
}

type migratedSet struct {
	Set      string `json:"set"`
	Upgraded bool   `json:"upgraded"`
	From     int32  `json:"from,omitempty"` // versions
	To       int32  `json:"to,omitempty"`
}

// text has a line for each set.
func (m *migrated) text() string {
	var b strings.Builder
	for _, set := range m.Sets {
		if !set.Upgraded {
			fmt.Fprintf(&b, "%s: up to date\n", set.Set)
		} else {
			fmt.Fprintf(&b, "%s: from version %d to %d\n", set.Set, set.From, set.To)
		}
		if set.Set != migrations.Signals.String() {
			m.mended(&b, set.Set)
		}
	}
	return b.String()
}

// mended has a line for each thing that was done to an outbox, besides its schema.
func (m *migrated) mended(b *strings.Builder, name string) {
	if m.Adopted {
		fmt.Fprintf(b, "%s: came from another server, and was adopted\n", name)
	}
	if m.Native {
		fmt.Fprintf(b, "%s: nothing to adopt: it is from here, or was adopted before\n", name)
	}
	if m.Raised {
		fmt.Fprintf(b, "%s: its sequences were behind, and were raised\n", name)
	}
	if m.Republished > 0 {
		fmt.Fprintf(b, "%s: %s (%d to %d): a subscription that had seen some of them sees them again\n",
			name, plural(m.Republished, "event published meanwhile got a new id", "events published meanwhile got new ids"), m.FirstID, m.FirstID+m.Republished-1)
	}
	if m.Blind {
		fmt.Fprintf(b, "%s: pg_control_system() is refused to the schema's owner, so only other signs tell whether the cluster is another one\n", name)
	}
}

// migrate brings the sets up to date.
func migrate(ctx context.Context, pool *pgxpool.Pool, o outbox.Outbox, sets []migrations.Set, after engine.Move) (*migrated, error) {
	done := &migrated{Sets: []migratedSet{}}
	// All over one connection: tern's lock is the session's.
	err := pool.AcquireFunc(ctx, func(pooled *pgxpool.Conn) error {
		conn := pooled.Conn()
		for _, set := range sets {
			one, err := upgrade(ctx, conn, set)
			if err != nil {
				return err
			}
			done.Sets = append(done.Sets, one)
			if set == migrations.Signals {
				continue
			}
			own := naming.Of(o).Conn(conn)
			mended, err := engine.Mend(ctx, own, after)
			if err != nil {
				return err
			}
			done.Adopted, done.Raised, done.Republished, done.FirstID = mended.Adopted, mended.Raised, mended.Published, mended.FirstID
			done.Native = after != "" && !mended.Adopted
			if done.Blind, err = engine.Blind(ctx, own); err != nil {
				return err
			}
		}
		return nil
	})
	return done, err
}

// upgrade brings one set up to date.
func upgrade(ctx context.Context, conn *pgx.Conn, set migrations.Set) (migratedSet, error) {
	// Who asks before may be overtaken by another process. What was missing then is there afterwards, by whoever's hand.
	done := migratedSet{Set: set.String()}
	var err error
	if done.From, err = set.Version(ctx, conn); err != nil {
		return done, err
	}
	if err := apply.Up(ctx, conn, set); err != nil {
		return done, err
	}
	if done.To, err = set.Version(ctx, conn); err != nil {
		return done, err
	}
	if done.Upgraded = done.To > done.From; !done.Upgraded {
		done.From, done.To = 0, 0
	}
	return done, nil
}
