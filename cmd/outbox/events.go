package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/internal/uid"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

type eventsCommands struct {
	List eventsListCommand `cmd:"" help:"List events that match a filter."`
	Show eventsShowCommand `cmd:"" help:"Show an event, and what became of it in every subscription."`
	Tail eventsTailCommand `cmd:"" help:"Follow events as they come, until Ctrl-C."`
}

// eventFilter is the part of a verb's flags that chooses events. Embed it. It has no environment variables: a filter that
// nobody sees is a trap.
type eventFilter struct {
	Topic   string `env:"-" placeholder:"PATTERN" help:"Only this topic; * stands for one token, > for the rest."`
	Key     string `env:"-" placeholder:"KEY" help:"Only events of this key."`
	Payload string `env:"-" placeholder:"JSON" help:"Only events whose payload contains this JSON."`
	Since   moment `env:"-" placeholder:"TIME" help:"Only what was published from then on: a time or day (UTC unless it has a zone), or how long ago (1h30m, 7d)."`
	Until   moment `env:"-" placeholder:"TIME" help:"Only what was published before."`
	MinID   int64  `env:"-" name:"min-id" placeholder:"ID" help:"Only events from this id on."`
	MaxID   int64  `env:"-" name:"max-id" placeholder:"ID" help:"Only events up to this id."`
}

// filter is what the flags mean to the library.
func (f *eventFilter) filter() admin.EventFilter {
	return admin.EventFilter{
		Topic: f.Topic, Key: f.Key, Since: f.Since.Time, Until: f.Until.Time, MinID: f.MinID, MaxID: f.MaxID,
		Payload: json.RawMessage(f.Payload),
	}
}

type eventsListCommand struct {
	eventFilter
	Newest bool `env:"-" help:"Begin with the newest."`
	cursor
	asJSON
	cli.Database
}

// Help is what "outbox events list --help" explains.
func (*eventsListCommand) Help() string {
	return `Lists events of the log, oldest first, and says how to go on where there are more.

	outbox events list --newest --limit 10
	outbox events list --topic 'orders.>' --since 1h
	outbox events list --key A-17 --payload '{"customer": {"country": "NO"}}'
	outbox events list --min-id 1000 --max-id 1999 --json | jq '.events[].payload'

Where few events of a large log match, it takes its time: a key, a time or ids spare it most of that. The JSON object is
{"events": […], "next": what --after takes, "" on the last page}.`
}

func (l *eventsListCommand) Run(ctx context.Context, c *console) error {
	pool, err := open(ctx, l.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	page, err := l.page(ctx, pool)
	switch {
	case err != nil:
		return err
	case l.JSON:
		return c.print(page)
	case len(page.Events) == 0:
		return c.write("No event matches.\n")
	}
	var b strings.Builder
	table(&b, "ID\tPUBLISHED\tTOPIC\tKEY\tPAYLOAD", page.Events, func(e outbox.Event) []string {
		return []string{strconv.FormatInt(e.ID, 10), clock(e.PublishedAt), plain.Quote(e.Topic), plain.Quote(e.Key), excerpt(string(plain.JSON(e.Payload)), 60)}
	})
	writeNext(&b, page.Next)
	return c.write(b.String())
}

// An eventPage is what "outbox events list --json" prints.
type eventPage struct {
	Events []outbox.Event `json:"events"`
	Next   admin.Cursor   `json:"next"`
}

func (l *eventsListCommand) page(ctx context.Context, pool *database) (*eventPage, error) {
	o, err := l.options()
	if err != nil {
		return nil, err
	}
	list := admin.ListEvents
	if l.Newest {
		list = admin.ListNewestEvents
	}
	page, err := fullPage(o, eventBytes, func(o admin.ListOptions) (*admin.Page[outbox.Event], error) {
		return list(ctx, pool, l.filter(), o)
	})
	if err != nil {
		return nil, err
	}
	return &eventPage{page.Items, page.Next}, nil
}

// eventBytes is about how long an event is.
func eventBytes(e outbox.Event) int {
	n := len(e.Payload)
	for name, value := range e.Headers {
		n += len(name) + len(value)
	}
	return n
}

// An eventRef names an event by its id or its UID.
type eventRef struct {
	id  int64
	uid string // "" for a reference by id
}

// UnmarshalText takes what was typed.
func (r *eventRef) UnmarshalText(text []byte) error {
	if id, ok := uid.ID(string(text)); ok {
		*r = eventRef{id, strings.ToLower(string(text))}
		return nil
	}
	id, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return fmt.Errorf("%q is neither the id nor the UID of an event", text)
	}
	*r = eventRef{id: id}
	return nil
}

// String returns what was typed.
func (r eventRef) String() string {
	if r.uid != "" {
		return r.uid
	}
	return strconv.FormatInt(r.id, 10)
}

// get returns the event with its fates.
func (r eventRef) get(ctx context.Context, db outbox.DB) (*admin.EventDetails, error) {
	if r.uid != "" {
		return admin.GetEventByUID(ctx, db, r.uid)
	}
	return admin.GetEvent(ctx, db, r.id)
}

// is reports whether the reference is to an event, which has its id.
func (r eventRef) is(e *outbox.Event) bool { return r.uid == "" || r.uid == e.UID }

type eventsShowCommand struct {
	Event eventRef `arg:"" name:"id" help:"The event's id or UID."`
	asJSON
	cli.Database
}

// Help is what "outbox events show --help" explains.
func (*eventsShowCommand) Help() string {
	return `Shows an event with its payload and headers, and what became of it in every subscription:

	pending     it is yet to be handled, or is right now
	delivered   it was handled
	retrying    it failed, and will be tried again
	blocked     it waits behind an unfinished event of its key
	running     it is being handled, and takes its time
	dead        it was given up: see "outbox deliveries --help"
	skipped     it was set aside
	unmatched   its topic is none of the subscription's
	earlier     it is older than where the subscription began

	outbox events show 1234
	outbox events show 019acb5e-0d4c-7bce-8e2d-4000000004d2
	outbox events show 1234 --json | jq '.fates[] | select(.fate == "dead") | .subscription'

It exits with 3 where there is no such event: its transaction has not committed, or was rolled back, or it was deleted
because of its age. A delivery outlives that, and is still shown.`
}

func (s *eventsShowCommand) Run(ctx context.Context, c *console) error {
	pool, err := open(ctx, s.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	row, err := s.Event.get(ctx, pool)
	switch {
	case err != nil:
		return err
	case s.JSON:
		return c.print(row)
	}
	return c.write(eventText(row))
}

func eventText(row *admin.EventDetails) string {
	var b strings.Builder
	writeEvent(&b, &row.Event)
	if row.Deleted {
		b.WriteString("\nThe log does not have it any more. What is left:\n")
	}
	b.WriteByte('\n')
	if len(row.Fates) == 0 {
		b.WriteString("There is no subscription yet.\n")
		return b.String()
	}
	table(&b, "SUBSCRIPTION\tFATE\tATTEMPTS\tLAST ERROR", row.Fates, func(f admin.EventFate) []string {
		cells := []string{plain.Quote(f.Subscription), string(f.Fate), "", ""}
		if f.Delivery != nil {
			cells[2], cells[3] = strconv.Itoa(f.Delivery.Attempt), lastError(f.Delivery)
		}
		return cells
	})
	return b.String()
}

// writeEvent writes all that is known of an event.
func writeEvent(b *strings.Builder, e *outbox.Event) {
	fields(b,
		field{"Event", strconv.FormatInt(e.ID, 10)},
		field{"UID", e.UID},
		field{"Topic", plain.Quote(e.Topic)},
		field{"Key", plain.Quote(e.Key)},
		field{"Published", clock(e.PublishedAt)},
		field{"Headers", headerText(e.Headers)},
	)
	fmt.Fprintf(b, "\n%s\n", indented(e.Payload))
}

func headerText(headers map[string]string) string {
	var list []string
	for name, value := range headers {
		list = append(list, plain.Quote(name)+"="+plain.Quote(value))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// lastError is the beginning of what failed last.
func lastError(d *admin.Delivery) string {
	if len(d.Failures) == 0 {
		return ""
	}
	return excerpt(d.Failures[len(d.Failures)-1].Error, 80)
}
