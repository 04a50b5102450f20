package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/relay"
)

type relayCheckCommand struct {
	relayFlags
	asJSON
	cli.Database
}

// Help is what "outbox relay check --help" explains.
func (*relayCheckCommand) Help() string {
	return `Tries what a relay needs, and sends nothing: the connection, the credentials, and whether the destinations of the newest events are there and
may be written to. It also says how large the largest of these messages is, for the limits of the sink.

	outbox relay check --config relays.yaml
	outbox relay check --to nats://localhost:4222 --subscription to-nats --topics 'orders.>' --json

` + relayExitCodes
}

// A checked is what was found about a relay.
type checked struct {
	Relay        string   `json:"relay"`
	To           string   `json:"to"`
	Destinations []string `json:"destinations"`
	LargestBytes int      `json:"largest_bytes"` // of the newest messages
	Unroutable   int      `json:"unroutable"`    // of the newest events: they would be dead letters
	Error        string   `json:"error,omitempty"`
}

// checkedEvents is how many of the newest events are looked at.
const checkedEvents = 1000

func (r *relayCheckCommand) Run(ctx context.Context, c *console) error {
	return r.with(ctx, r.Database, func(pool *database, relays relayList) error { return r.check(ctx, c, pool, relays) })
}

func (r *relayCheckCommand) check(ctx context.Context, c *console, pool *database, relays relayList) error {
	var list []checked
	failed := 0
	for _, l := range relays {
		found, err := l.examine(ctx, pool)
		if err != nil {
			return err
		}
		if found.Error != "" {
			failed++
		}
		list = append(list, found)
	}
	var err error
	if r.JSON {
		err = c.print(map[string]any{"relays": list})
	} else {
		err = c.write(checkedText(list))
	}
	if err == nil && failed > 0 {
		err = &cli.ExitError{Code: exitSink, Err: errors.New(plural(int64(failed), "relay cannot send", "relays cannot send"))}
	}
	return err
}

func (l *relayed) examine(ctx context.Context, pool *database) (checked, error) {
	found := checked{Relay: l.spec.Subscription, To: l.place}
	encoder, err := relay.NewEncoder(l.sink, l.config)
	if err != nil {
		return found, err
	}
	events, err := l.newest(ctx, pool, checkedEvents)
	if err != nil && !errors.Is(err, outbox.ErrUnknownSubscription) {
		return found, err
	}
	var messages []*relay.Message
	for i := range events {
		switch m, err := encoder.Message(&events[i]); {
		case err != nil:
			found.Unroutable++
		case m != nil:
			messages = append(messages, m)
			found.LargestBytes = max(found.LargestBytes, len(m.Body))
		}
	}
	found.Destinations = l.destinations(messages)
	if err := l.check(ctx, found.Destinations); err != nil {
		if ctx.Err() != nil {
			return found, ctx.Err()
		}
		found.Error = plain.Line(err.Error())
	}
	return found, nil
}

func checkedText(list []checked) string {
	var b strings.Builder
	for _, f := range list {
		mark := "✔"
		if f.Error != "" {
			mark = "✘"
		}
		fmt.Fprintf(&b, "%s  %s → %s: %s, largest of the newest messages %d bytes\n", mark, plain.Quote(f.Relay), f.To,
			plural(int64(len(f.Destinations)), "destination", "destinations"), f.LargestBytes)
		if f.Error != "" {
			fmt.Fprintf(&b, "   → %s\n", f.Error)
		}
		if f.Error == "" && len(f.Destinations) == 0 {
			b.WriteString("   ! no event matches yet, so it is not known which destinations have to be there\n")
		}
		if f.Unroutable > 0 {
			fmt.Fprintf(&b, "   ! %s of the newest would be dead letters: they have no route\n", plural(int64(f.Unroutable), "event", "events"))
		}
	}
	return b.String()
}
