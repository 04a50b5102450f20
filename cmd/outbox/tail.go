package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

type eventsTailCommand struct {
	Topic   string `env:"-" placeholder:"PATTERN" help:"Only this topic; * stands for one token, > for the rest."`
	Key     string `env:"-" placeholder:"KEY" help:"Only events of this key."`
	Payload string `env:"-" placeholder:"JSON" help:"Only events whose payload contains this JSON."`
	Path    string `env:"-" placeholder:"JSONPATH" help:"Only events in whose payload this SQL/JSON path finds something other than null and false."`
	From    place  `env:"-" default:"now" placeholder:"PLACE" help:"Where to begin: now (default), beginning, an id, a time (UTC unless it has a zone), or how long ago (10m)."`
	asJSON
	cli.Database
}

// Help is what "outbox events tail --help" explains.
func (*eventsTailCommand) Help() string {
	return `Prints events as they come, until Ctrl-C, which ends it with 0. With --json, a line for each.

	outbox events tail
	outbox events tail --topic 'orders.>' --from 10m
	outbox events tail --path '$.total > 1000'
	outbox events tail --path '$.customer.vip' --json | jq .payload

It misses none and repeats none while it runs, though it is no subscription and holds nothing up: it remembers which
transactions it has passed. So an event of a long transaction comes when that commits, behind others with higher ids. Should the
connection break, it ends with an error that says where it was.

It hears of new events at once while workers are there, and otherwise looks each second. It needs the primary, and a direct
connection to hear: behind a pooling proxy it only looks.`
}

// tailPoll is how often a tail looks, whatever it hears.
const tailPoll = time.Second

func (t *eventsTailCommand) Run(ctx context.Context, c *console) error {
	pool, err := open(ctx, t.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	conn, err := ownConnection(ctx, pool.pool)
	if err != nil {
		return err
	}
	defer func() { shut(conn) }()
	// Before the first look, so that whatever that does not see is heard of.
	if _, err := conn.Exec(ctx, "listen "+t.Outbox.Channel()); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	tail, err := admin.NewTail(ctx, conn, admin.TailConfig{
		Outbox: t.Outbox,
		Start:  t.From.position, Topic: t.Topic, Key: t.Key, Payload: json.RawMessage(t.Payload), Path: t.Path,
	})
	if err != nil {
		return err
	}
	var last int64
	for {
		err := t.catchUp(ctx, c, tail, &last)
		if err == nil {
			err = listen(ctx, conn, tailPoll)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && last > 0:
			return fmt.Errorf("%w: the last event was %d; go on with --from %d, or with less for those of transactions that were still running", err, last, last+1)
		case err != nil:
			return err
		}
	}
}

// catchUp prints what there is, and keeps the highest id.
func (t *eventsTailCommand) catchUp(ctx context.Context, c *console, tail *admin.Tail, last *int64) error {
	for {
		events, more, err := tail.Next(ctx)
		if err != nil {
			return err
		}
		for i := range events {
			e := &events[i]
			if t.JSON {
				err = c.print(e)
			} else {
				err = c.write(fmt.Sprintf("%d  %s  %s  %s  %s\n", e.ID, clock(e.PublishedAt), plain.Quote(e.Topic), dash(e.Key), plain.Line(string(plain.JSON(e.Payload)))))
			}
			if err != nil {
				return fmt.Errorf("print event %d: %w", e.ID, err)
			}
			*last = max(*last, e.ID)
		}
		if !more {
			return nil
		}
	}
}

// dash stands for what is missing.
func dash(text string) string {
	if text == "" {
		return "-"
	}
	return plain.Quote(text)
}

// listen waits for a notification, or until it is time to look without one.
func listen(ctx context.Context, conn *pgx.Conn, patience time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := conn.WaitForNotification(waiting)
	if err != nil && ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err)) {
		return nil
	}
	return err
}

// ownConnection returns a connection that may be listened on. Statements are not prepared on it: behind a pooling proxy, they
// would be another client's the next moment.
func ownConnection(ctx context.Context, pool *pgxpool.Pool) (*pgx.Conn, error) {
	config := pool.Config().ConnConfig.Copy()
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

// shut closes a connection without waiting for a server that may not answer.
func shut(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
