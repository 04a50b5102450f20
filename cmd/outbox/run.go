package main

import (
	"context"
	"io"

	"github.com/signalbox-go/signalbox/internal/cli"
)

const description = `A transactional outbox in PostgreSQL: shows it, creates its schema, and tells how it is doing.

See it at work, with nothing but Go and PostgreSQL's programs on the machine:

	outbox demo

Or piece by piece, in several terminals:

	outbox db                              # prints DATABASE_URL=…, for the others
	producer                               # takes signals: curl -X POST localhost:8080/ingest
	worker --subscription log
	outbox status

With a database of your own, set DATABASE_URL and begin with "outbox migrate".

In a checkout, run them as "go run ./cmd/outbox demo" and so on.`

type flags struct {
	Demo    demoCommand    `cmd:"" help:"Show everything at work: producer, database, workers, traffic."`
	DB      dbCommand      `cmd:"" name:"db" help:"Run a PostgreSQL for trying things, with the schema, until Ctrl-C."`
	Migrate migrateCommand `cmd:"" help:"Create or upgrade the schema in a database."`
	Status  statusCommand  `cmd:"" help:"Tell how subscriptions and workers are doing."`
	UI      uiCommand      `cmd:"" name:"ui" help:"Serve the dashboard: what happens, what failed, and what to do about it."`
	Health  healthCommand  `cmd:"" help:"Ask a producer or worker whether it can serve."`
}

// Run runs the command that args name.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var flags flags
	chosen, err := cli.Parse("outbox", description, &flags, args, stdout)
	if err != nil {
		return err
	}
	switch chosen.Command() {
	case "demo":
		return flags.Demo.run(ctx, stdout, stderr)
	case "db":
		return flags.DB.run(ctx, stdout, stderr)
	case "migrate":
		return flags.Migrate.run(ctx, stdout)
	case "ui":
		return flags.UI.run(ctx, stdout, stderr)
	case "health <url>":
		return flags.Health.run(ctx)
	default:
		return flags.Status.run(ctx, stdout)
	}
}
