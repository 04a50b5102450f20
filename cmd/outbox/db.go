package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/outbox"
)

type dbCommand struct {
	asJSON
}

// Help is what "outbox db --help" explains.
func (*dbCommand) Help() string {
	return `Runs a real PostgreSQL with an empty, migrated outbox, from the programs on this machine. Its data goes when it ends.

	outbox db

The first line on standard output is DATABASE_URL=…, without quotes, or with --json {"database_url": …}. Set that in other terminals, and try:

	producer
	worker --subscription log
	curl -X POST localhost:8080/ingest
	outbox status

SIGNALBOX_PG_BIN chooses PostgreSQL's bin folder where there are several.`
}

func (d *dbCommand) Run(ctx context.Context, c *console) (err error) {
	db, err := startEmbedded(ctx, c.err, outbox.Outbox{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.stop()) }()
	// For scripts, which read this line and nothing else. People get it in quotes: the ? means something to some shells.
	if d.JSON {
		err = c.print(map[string]string{"database_url": db.url})
	} else {
		err = c.write("DATABASE_URL=" + db.url + "\n")
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.err, `
The database is ready, with its schema. In other terminals:

	export DATABASE_URL='%s'
	go run ./cmd/producer
	go run ./cmd/worker --subscription log
	curl -X POST localhost:8080/ingest
	go run ./cmd/outbox status

Ctrl-C ends it, and removes its data.
`, db.url)
	return db.watch(ctx, watchPatience)
}

// An embedded is a database of our own, up to date.
type embedded struct {
	server *embeddedpg.Server
	url    string
	pool   *pgxpool.Pool
}

// startEmbedded tells the audience what it may have to wait for.
func startEmbedded(ctx context.Context, audience io.Writer, o outbox.Outbox) (*embedded, error) {
	server, err := embeddedpg.Start(ctx, embeddedpg.Config{
		Logf: func(format string, args ...any) { fmt.Fprintf(audience, format+"\n", args...) },
	})
	if err != nil {
		return nil, err
	}
	// The one database that a new cluster has: it is all ours.
	db := &embedded{server: server, url: server.URL("postgres")}
	if db.pool, err = cli.Connect(ctx, db.url); err == nil {
		_, err = migrate(ctx, db.pool, o, bothSets(o), "")
	}
	if err != nil {
		return nil, errors.Join(err, db.stop())
	}
	return db, nil
}

// stop ends the server and removes its data.
func (db *embedded) stop() error {
	// First the clients: their server goes without complaints in its log.
	if db.pool != nil {
		db.pool.Close()
	}
	return db.server.Stop()
}

const (
	watchEvery = time.Second
	// watchPatience is longer than PostgreSQL takes to recover when one of its processes was killed.
	watchPatience = 10 * time.Second
)

// watch returns nil when ctx ends. It returns an error when the server does not answer any more, which is not worth
// waiting for: somebody has killed it.
func (db *embedded) watch(ctx context.Context, patience time.Duration) error {
	looks := time.NewTicker(watchEvery)
	defer looks.Stop()
	seen := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-looks.C:
		}
		err := db.pool.Ping(ctx)
		switch {
		case err == nil:
			seen = time.Now()
		case ctx.Err() == nil && time.Since(seen) > patience:
			return fmt.Errorf("the database has not answered for %v: %w", patience, err)
		}
	}
}
