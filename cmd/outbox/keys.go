package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

type keysCommands struct {
	List keysListCommand `cmd:"" help:"List held keys, with what each waits for and what can be done."`
}

type keysListCommand struct {
	Subscription string `env:"-" short:"s" required:"" placeholder:"NAME" help:"Of this subscription."`
	cursor
	asJSON
	cli.Database
}

// Help is what "outbox keys list --help" explains.
func (*keysListCommand) Help() string {
	return `Lists the held keys of a subscription. A key is held once a hundred of its events wait behind one that is slow, fails or is a dead
letter that stops its key: later ones stay in the log until the line grows shorter, and other keys go on. Nothing is lost, and
nothing has to be done about a key whose handler is only busy.

	outbox keys list -s mails
	outbox keys list -s mails --json | jq -r '.keys[] | select(.waits_for == "decision") | .key'

The JSON object is {"keys": […], "next": what --after takes, "" on the last page}. A key waits for a "handler" that runs, the next
"attempt" at its first event, a "worker" that begins it, a "decision" about a dead letter, or the "refill" of its line.`
}

// A keyPage is what "outbox keys list --json" prints.
type keyPage struct {
	Keys []admin.HeldKey `json:"keys"`
	Next admin.Cursor    `json:"next"`
}

func (l *keysListCommand) Run(ctx context.Context, c *console) error {
	o, err := l.options()
	if err != nil {
		return err
	}
	pool, err := open(ctx, l.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	list, err := admin.ListHeldKeys(ctx, pool, l.Subscription, o)
	if err != nil {
		return err
	}
	page := keyPage{Keys: list.Items, Next: list.Next}
	switch {
	case l.JSON:
		return c.print(page)
	case len(page.Keys) == 0:
		return c.write("No key is held.\n")
	}
	var now time.Time
	if err := pool.QueryRow(ctx, `select clock_timestamp()`).Scan(&now); err != nil {
		return err
	}
	var b strings.Builder
	table(&b, "KEY\tHELD\tFROM\tLINE\tFIRST\tATTEMPTS\tWAITS FOR\tLAST ERROR", page.Keys, func(k admin.HeldKey) []string {
		first, attempts, failure := "", "", ""
		if k.Head != nil {
			first, attempts, failure = strconv.FormatInt(k.Head.ID, 10), strconv.Itoa(k.Head.Attempt), excerpt(k.Head.Error, 80)
		}
		return []string{
			plain.Quote(k.Key), age(now.Sub(k.HeldAt)), strconv.FormatInt(k.FromID, 10), number(k.Deliveries), first, attempts, waitText(k, now), failure,
		}
	})
	if advice := keyAdvice(c.outbox, l.Subscription, page.Keys); len(advice) > 0 {
		b.WriteString("\n" + strings.Join(advice, "\n") + "\n")
	}
	writeNext(&b, page.Next)
	return c.write(b.String())
}

// waitText is what a held key waits for.
func waitText(k admin.HeldKey, now time.Time) string {
	switch k.WaitsFor {
	case admin.WaitsForHandler:
		return "its handler"
	case admin.WaitsForAttempt:
		return "an attempt in " + age(k.Head.DueAt.Sub(now))
	case admin.WaitsForWorker:
		return "a worker"
	case admin.WaitsForDecision:
		return "a decision"
	case admin.WaitsForRefill:
		return "the next of its events"
	}
	return string(k.WaitsFor)
}

// keyAdvice is what can be done about what keys wait for.
func keyAdvice(n naming.Name, subscription string, keys []admin.HeldKey) []string {
	waits := map[admin.WaitsFor]bool{}
	for _, k := range keys {
		waits[k.WaitsFor] = true
	}
	var list []string
	say := func(format string) { list = append(list, fmt.Sprintf(n.Advice(format), plain.Shell(subscription))) }
	if waits[admin.WaitsForAttempt] {
		say("Try the first event of a key now: outbox deliveries retry -s %s --state retrying --id FIRST. Or set it aside: outbox deliveries skip, with --reason.")
	}
	if waits[admin.WaitsForDecision] {
		say("Decide about a dead letter that stops its key: outbox deliveries retry -s %s --id FIRST, or outbox deliveries skip or discard.")
	}
	if waits[admin.WaitsForWorker] {
		say("If a due event does not begin, look for a paused subscription, an open breaker or missing workers: outbox subscriptions show %s")
	}
	return list
}
