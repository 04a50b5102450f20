package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

type deliveriesCommands struct {
	List    deliveriesListCommand    `cmd:"" help:"List deliveries that match a filter: dead letters, unless --state says otherwise."`
	Groups  deliveriesGroupsCommand  `cmd:"" help:"List what failed by its error, the most frequent first."`
	Show    deliveriesShowCommand    `cmd:"" help:"Show a delivery with its payload and each failure."`
	Retry   deliveriesRetryCommand   `cmd:"" help:"Have deliveries tried again, with all their attempts."`
	Skip    deliveriesSkipCommand    `cmd:"" help:"Set deliveries aside, with a reason."`
	Discard deliveriesDiscardCommand `cmd:"" help:"Delete deliveries, payload and all."`
}

// deliveryFilter is the part of a verb's flags that chooses deliveries. Embed it. Like an eventFilter, it has no environment
// variables.
type deliveryFilter struct {
	Subscription string   `env:"-" short:"s" required:"" placeholder:"NAME" help:"Of this subscription."`
	State        []string `env:"-" default:"dead" enum:"retrying,blocked,running,dead,skipped,all" placeholder:"STATE" help:"In this state: retrying, blocked (it waits behind an earlier one of its key), running, dead (default), skipped or all; repeat for several."`
	Topic        string   `env:"-" placeholder:"PATTERN" help:"Only this topic; * stands for one token, > for the rest."`
	Key          string   `env:"-" placeholder:"KEY" help:"Only events of this key."`
	Error        string   `env:"-" placeholder:"TEXT" help:"Only those whose last error has this in it."`
	Since        moment   `env:"-" placeholder:"TIME" help:"Only what became a delivery from then on: a time or day (UTC unless it has a zone), or how long ago (1h30m, 7d)."`
	Until        moment   `env:"-" placeholder:"TIME" help:"Only what became one before."`
	ID           []int64  `env:"-" name:"id" placeholder:"ID" help:"Only of this event; repeat for several."`
}

var (
	everyState = []outbox.State{outbox.Retrying, admin.Blocked, outbox.Running, outbox.Dead, outbox.Skipped}
	// What runs is its worker's: nobody else can decide about it. What is blocked cannot be tried before the first one of its key.
	decidable = []outbox.State{outbox.Retrying, admin.Blocked, outbox.Dead, outbox.Skipped}
	retryable = []outbox.State{outbox.Retrying, outbox.Dead, outbox.Skipped}
)

// filter is what the flags mean to the library. all are the states that all of them stand for.
func (f *deliveryFilter) filter(all []outbox.State) admin.DeliveryFilter {
	var states []outbox.State
	for _, state := range f.State {
		if state == "all" {
			states = all
			break
		}
		states = append(states, outbox.State(state))
	}
	return admin.DeliveryFilter{
		Subscription: f.Subscription, States: states, IDs: f.ID, Topic: f.Topic, Key: f.Key, Error: f.Error,
		Since: f.Since.Time, Until: f.Until.Time,
	}
}

type deliveriesListCommand struct {
	deliveryFilter
	cursor
	asJSON
	cli.Database
}

// Help is what "outbox deliveries list --help" explains.
func (*deliveriesListCommand) Help() string {
	return `Lists deliveries by the ids of their events, and says how to go on where there are more. A delivery is an event's own row for one
subscription: it failed, is slow, or waits behind one of its key that did.

	outbox deliveries list -s mails                       # dead letters
	outbox deliveries list -s mails --state all --since 1h
	outbox deliveries list -s mails --error refused --json | jq '.deliveries[].event.id'

The JSON object is {"deliveries": […], "next": what --after takes, "" on the last page}.`
}

// A deliveryPage is what "outbox deliveries list --json" prints.
type deliveryPage struct {
	Deliveries []admin.Delivery `json:"deliveries"`
	Next       admin.Cursor     `json:"next"`
}

func (l *deliveriesListCommand) Run(ctx context.Context, c *console) error {
	o, err := l.options()
	if err != nil {
		return err
	}
	pool, err := open(ctx, l.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	list, err := fullPage(o, deliveryBytes, func(o admin.ListOptions) (*admin.Page[admin.Delivery], error) {
		return admin.ListDeliveries(ctx, pool, l.filter(everyState), o)
	})
	if err != nil {
		return err
	}
	page := deliveryPage{list.Items, list.Next}
	switch {
	case l.JSON:
		return c.print(page)
	case len(page.Deliveries) == 0:
		return c.write("No delivery matches.\n")
	}
	var b strings.Builder
	table(&b, "EVENT\tSTATE\tTOPIC\tKEY\tATTEMPTS\tSINCE\tLAST ERROR", page.Deliveries, func(d admin.Delivery) []string {
		return []string{
			strconv.FormatInt(d.Event.ID, 10), string(d.State), plain.Quote(d.Event.Topic), plain.Quote(d.Event.Key),
			strconv.Itoa(d.Attempt), clock(d.CreatedAt), lastError(&d),
		}
	})
	writeNext(&b, page.Next)
	return c.write(b.String())
}

// deliveryBytes is about how long a delivery is.
func deliveryBytes(d admin.Delivery) int {
	n := eventBytes(d.Event)
	for _, f := range d.Failures {
		n += len(f.Error)
	}
	return n
}

type deliveriesShowCommand struct {
	Event        eventRef `arg:"" name:"id" help:"The event's id or UID."`
	Subscription string   `env:"-" short:"s" required:"" placeholder:"NAME" help:"Of this subscription."`
	asJSON
	cli.Database
}

// Help is what "outbox deliveries show --help" explains.
func (*deliveriesShowCommand) Help() string {
	return `Shows a delivery: the event with its payload and headers, and each failure with its time, its worker and its error.

	outbox deliveries show 1234 -s mails
	outbox deliveries show 1234 -s mails --json | jq -r '.failures[-1].error'

It exits with 3 where the subscription has no delivery of that event: it was delivered, or is yet to be.`
}

func (s *deliveriesShowCommand) Run(ctx context.Context, c *console) error {
	pool, err := open(ctx, s.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	f := admin.DeliveryFilter{Subscription: s.Subscription, States: everyState, IDs: []int64{s.Event.id}}
	list, err := admin.ListDeliveries(ctx, pool, f, admin.ListOptions{Limit: 1})
	switch {
	case err != nil:
		return err
	case len(list.Items) == 0 || !s.Event.is(&list.Items[0].Event):
		return fmt.Errorf("%w of event %s for %q: \"outbox events show %s\" says what became of it", errUnknownDelivery, s.Event, s.Subscription, s.Event)
	case s.JSON:
		return c.print(list.Items[0])
	}
	return c.write(deliveryText(&list.Items[0]))
}

func deliveryText(d *admin.Delivery) string {
	var b strings.Builder
	writeEvent(&b, &d.Event)
	due, holds := "", ""
	if d.State == outbox.Retrying {
		due = clock(d.DueAt)
	}
	if d.StopsKey {
		holds = "the events of its key, until you decide"
	}
	b.WriteByte('\n')
	fields(&b,
		field{"State", string(d.State)},
		field{"Attempts", strconv.Itoa(d.Attempt)},
		field{"Since", clock(d.CreatedAt)},
		field{"Next", due},
		field{"Holds up", holds},
	)
	for _, f := range d.Failures {
		fmt.Fprintf(&b, "\n%s  attempt %d  %s\n", clock(f.At), f.Attempt, dash(f.Worker))
		for line := range strings.Lines(plain.Block(f.Error)) {
			fmt.Fprintf(&b, "    %s\n", plain.Clip(strings.TrimSuffix(line, "\n"), 1000))
		}
	}
	return b.String()
}

// decideHelp is what the three verbs that decide have in common.
const decideHelp = `
Acts on the deliveries that match the filter; preview them with "outbox deliveries list". Shows the count and asks for confirmation
unless --yes is given. Running deliveries are not touched.`

type deliveriesRetryCommand struct {
	deliveryFilter
	confirmation
	asJSON
	cli.Database
}

// Help is what "outbox deliveries retry --help" explains.
func (*deliveriesRetryCommand) Help() string {
	return `Has deliveries tried again, at once and with all their attempts, those of one key in order.

	outbox deliveries retry -s mails --id 1234
	outbox deliveries retry -s mails --error 'connection refused' --yes
	outbox deliveries retry -s mails --state skipped --topic 'orders.>'
` + decideHelp + ` With --id, it does not ask.`
}

func (r *deliveriesRetryCommand) Run(ctx context.Context, c *console) error {
	return decision{
		verb: "Retry", done: "will be tried again", json: "retried", all: retryable, certain: len(r.ID) > 0, do: admin.RetryDeliveries,
	}.run(ctx, c, r.Database, &r.deliveryFilter, r.confirmation, r.asJSON)
}

type deliveriesSkipCommand struct {
	deliveryFilter
	Reason string `env:"-" required:"" placeholder:"TEXT" help:"Why; it is kept with them."`
	confirmation
	asJSON
	cli.Database
}

// Help is what "outbox deliveries skip --help" explains.
func (*deliveriesSkipCommand) Help() string {
	return `Sets deliveries aside for a reason, which is kept with them. Their keys go on. They stay until the log's retention is over, and can be
retried until then.

	outbox deliveries skip -s mails --id 1234 --reason 'customer is gone'
	outbox deliveries skip -s mails --topic orders.test --reason 'tests' --yes
` + decideHelp + ` With --id, it does not ask.`
}

func (s *deliveriesSkipCommand) Run(ctx context.Context, c *console) error {
	if strings.TrimSpace(s.Reason) == "" {
		return &cli.UsageError{Err: errors.New("--reason is empty: say why, for the next person who looks")}
	}
	skip := func(ctx context.Context, db outbox.DB, f admin.DeliveryFilter) (int64, error) {
		return admin.SkipDeliveries(ctx, db, f, s.Reason)
	}
	return decision{
		verb: "Skip", done: "set aside", json: "skipped", all: decidable, certain: len(s.ID) > 0, do: skip,
	}.run(ctx, c, s.Database, &s.deliveryFilter, s.confirmation, s.asJSON)
}

type deliveriesDiscardCommand struct {
	deliveryFilter
	confirmation
	asJSON
	cli.Database
}

// Help is what "outbox deliveries discard --help" explains.
func (*deliveriesDiscardCommand) Help() string {
	return `Deletes deliveries with their payloads and failures. Their keys go on. This cannot be undone.

	outbox deliveries discard -s mails --id 1234 --yes
	outbox deliveries discard -s mails --state skipped --until 30d
` + decideHelp
}

func (d *deliveriesDiscardCommand) Run(ctx context.Context, c *console) error {
	return decision{
		verb: "Discard", done: "discarded", json: "discarded", all: decidable, do: admin.DiscardDeliveries,
	}.run(ctx, c, d.Database, &d.deliveryFilter, d.confirmation, d.asJSON)
}

// A decision is what can be done about deliveries.
type decision struct {
	verb, done string // for people
	json       string // its count in JSON
	all        []outbox.State
	certain    bool // does not ask
	do         admin.Decision
}

func (d decision) run(ctx context.Context, c *console, database cli.Database, chosen *deliveryFilter, sure confirmation, as asJSON) error {
	if slices.Contains(chosen.State, string(outbox.Running)) {
		return &cli.UsageError{Err: fmt.Errorf("--state running: what a worker is handling cannot be decided about: wait until it is delivered or fails")}
	}
	pool, err := open(ctx, database)
	if err != nil {
		return err
	}
	defer pool.Close()
	f := chosen.filter(d.all)
	n, err := admin.CountDeliveries(ctx, pool, f)
	if err != nil {
		return err
	}
	if n > 0 {
		question := fmt.Sprintf("%s %s of %q", d.verb, plural(n, "delivery", "deliveries"), chosen.Subscription)
		if !as.JSON && (sure.Yes || d.certain) {
			fmt.Fprintf(c.err, "%s.\n", question)
		}
		sure.Yes = sure.Yes || d.certain
		if err := c.confirm(ctx, sure, question); err != nil {
			return err
		}
		if n, err = admin.DecideInChunks(ctx, pool, f, d.do); err != nil && n > 0 {
			return fmt.Errorf("%w: %s %s before; run it again for the others", err, plural(n, "delivery", "deliveries"), d.done)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case as.JSON:
		return c.print(map[string]any{"subscription": chosen.Subscription, d.json: n})
	case n == 0:
		return c.write("No delivery matches.\n")
	}
	return c.write(fmt.Sprintf("%s %s.\n", plural(n, "delivery", "deliveries"), d.done))
}
