package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/outbox"
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

In a checkout, run them as "go run ./cmd/outbox demo" and so on.

Every verb explains itself with examples: "outbox events tail --help". Those that print something print JSON with --json.
` + exitCodes

type flags struct {
	Demo          demoCommand           `cmd:"" help:"Show everything at work: producer, database, workers, traffic."`
	DB            dbCommand             `cmd:"" name:"db" help:"Run a PostgreSQL for trying things, with the schema, until Ctrl-C."`
	Migrate       migrateCommand        `cmd:"" help:"Create or upgrade the schema in a database."`
	Status        statusCommand         `cmd:"" help:"Tell how subscriptions and workers are doing."`
	Doctor        doctorCommand         `cmd:"" help:"Look for what is wrong with a database, and say what to do."`
	Events        eventsCommands        `cmd:"" help:"List events, show what became of one, follow them as they come."`
	Subscriptions subscriptionsCommands `cmd:"" help:"List, create, change, pause, resume, probe and delete subscriptions."`
	Features      featuresCommands      `cmd:"" help:"List what older workers would break, and give it up for a rollback."`
	Deliveries    deliveriesCommands    `cmd:"" help:"List what failed, and decide: retry, skip or discard."`
	Keys          keysCommands          `cmd:"" help:"List held keys: what each waits for, and what can be done."`
	Replay        replayCommand         `cmd:"" help:"Have a subscription handle events again."`
	Relay         relayCommands         `cmd:"" help:"Send events to Kafka, NATS, RabbitMQ or webhooks."`
	UI            uiCommand             `cmd:"" name:"ui" help:"Serve the dashboard: what happens, what failed, and what to do about it."`
	Health        healthCommand         `cmd:"" help:"Ask a producer or worker whether it can serve."`
	Completion    completionCommand     `cmd:"" help:"Print a script that completes this program's commands in a shell."`
	Complete      completeCommand       `cmd:"" hidden:"" help:"Print what could come next, for the scripts of completion."`
}

// Run runs the command that args name: kong calls the Run method of its struct.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var flags flags
	chosen, err := cli.Parse("outbox", description, &flags, args, stdout)
	if err != nil {
		return err
	}
	chosen.BindTo(ctx, (*context.Context)(nil))
	about := outboxOf(chosen)
	err = about.Advised(withCode(chosen.Run(&console{in: os.Stdin, out: stdout, err: stderr, outbox: about})))
	if usage := new(cli.UsageError); errors.As(err, &usage) {
		usage.See = chosen.Selected().FullPath()
	}
	return err
}

// outboxOf is the name that the flag of the chosen verb has, if it has one.
func outboxOf(chosen *kong.Context) naming.Name {
	for _, flag := range chosen.Flags() {
		if o, ok := chosen.FlagValue(flag).(outbox.Outbox); ok {
			return naming.Of(o)
		}
	}
	return ""
}
