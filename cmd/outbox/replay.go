package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

type replayCommand struct {
	Subscription string `arg:"" help:"The subscription's name."`
	From         place  `env:"-" placeholder:"PLACE" help:"Go back there: an id, a time (UTC unless it has a zone), how long ago (7d), or the beginning. Not with a filter."`
	eventFilter
	Rate  int   `env:"-" default:"0" placeholder:"N" help:"Maximum events per second (with a filter). 0, the default, pauses after each chunk for as long as the chunk took."`
	After int64 `env:"-" placeholder:"ID" help:"Go on after this event, where a replay was interrupted (with a filter)."`
	confirmation
	asJSON
	cli.Database
}

// Help is what "outbox replay --help" explains.
func (*replayCommand) Help() string {
	return `Has a subscription handle events again that it has handled. Other subscriptions do not notice. Without --yes it is a dry run: it says
how many events that would be, and changes nothing.

Everything from a position on. The subscription rewinds as soon as its workers release its lanes, which takes about a second, and
handles everything since in order by key:

	outbox replay search --from 7d
	outbox replay search --from 2026-01-31T12:00:00Z --yes
	outbox replay search --from beginning --yes

Or just the events that match a filter. They are tried again beside what is new; for most of a log, a rewind is faster:

	outbox replay mails --topic orders.placed --since 2h --until 1h --yes
	outbox replay mails --payload '{"customer": "A-17"}' --rate 100 --yes

Those that are published while it runs are not among them. Ctrl-C interrupts it (exit code 130), and prints the command that goes
on from where it was. Nothing is lost in between, and what was taken stays taken.`
}

func (r *replayCommand) Run(ctx context.Context, c *console) error {
	if err := r.check(); err != nil {
		return &cli.UsageError{Err: err}
	}
	pool, err := open(ctx, r.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	if r.From.argument != "" {
		return r.rewind(ctx, c, pool)
	}
	return r.events(ctx, c, pool)
}

func (r *replayCommand) check() error {
	filtered := r.Topic != "" || r.Key != "" || r.Payload != "" || !r.Since.IsZero() || !r.Until.IsZero() || r.MinID != 0 || r.MaxID != 0
	switch {
	case r.From.argument != "" && (filtered || r.Rate != 0 || r.After != 0):
		return errors.New("--from goes back for everything: with a filter, say --since or --min-id instead")
	case r.From.argument == "" && !filtered:
		return errors.New("say from where with --from, or which events with a filter such as --topic or --since")
	case r.Rate < 0:
		return fmt.Errorf("--rate is %d, must be at least 0", r.Rate)
	case r.After < 0:
		return fmt.Errorf("--after is %d, must be the id of an event", r.After)
	}
	return nil
}

// A replayed is what "outbox replay --json" prints.
type replayed struct {
	Subscription string `json:"subscription"`
	DryRun       bool   `json:"dry_run"`
	Events       int64  `json:"events"`
	Estimated    bool   `json:"estimated"`
	Done         bool   `json:"done"`             // all of it; false for a dry run and after an interrupt
	Resume       string `json:"resume,omitempty"` // the command that goes on after an interrupt
}

// dry says what would be.
func (r *replayCommand) dry(c *console, n admin.Estimate) error {
	if r.JSON {
		return c.print(replayed{Subscription: r.Subscription, DryRun: true, Events: n.Events, Estimated: n.Estimated})
	}
	if n.Events == 0 {
		return c.write(fmt.Sprintf("%s has handled no such event: there is nothing to replay.\n", plain.Quote(r.Subscription)))
	}
	return c.write(fmt.Sprintf("%s would be replayed to %s. Nothing was changed: add --yes to do it.\n", estimateText(n), plain.Quote(r.Subscription)))
}

func (r *replayCommand) rewind(ctx context.Context, c *console, pool *database) error {
	if !r.Yes {
		n, err := admin.CountRewind(ctx, pool, r.Subscription, r.From.position)
		if err != nil {
			return err
		}
		return r.dry(c, n)
	}
	n, err := admin.Rewind(ctx, pool, r.Subscription, r.From.position)
	if ctx.Err() != nil && err != nil {
		return r.interruptedRewind(ctx, c, pool, err)
	}
	if err != nil {
		return err
	}
	if r.JSON {
		return c.print(replayed{Subscription: r.Subscription, Events: n.Events, Estimated: n.Estimated, Done: true})
	}
	return c.write(fmt.Sprintf(c.outbox.Advice("%s is rewound. %s will be handled again: \"outbox status --watch\" shows how it gets on.\n"), plain.Quote(r.Subscription), estimateText(n)))
}

// interruptedRewind says whether something is left to do.
func (r *replayCommand) interruptedRewind(ctx context.Context, c *console, pool *database, err error) error {
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if row, failure := admin.GetSubscription(look, pool, r.Subscription); failure == nil && row.RewindTo != nil {
		fmt.Fprintf(c.err, "\nRewind requested. %s will rewind as soon as its workers release its lanes. To wait for that, run again:\n\n\t%s\n\n",
			plain.Quote(r.Subscription), r.command(0, 0))
	} else {
		fmt.Fprintf(c.err, "\nIt was not begun. To do it:\n\n\t%s\n\n", r.command(0, 0))
	}
	return err
}

func (r *replayCommand) events(ctx context.Context, c *console, pool *database) error {
	f := r.filter()
	left := f
	left.MinID = max(f.MinID, r.After+1)
	n, err := admin.CountReplay(ctx, pool, r.Subscription, left)
	if err != nil {
		return err
	}
	if !r.Yes {
		return r.dry(c, n)
	}
	bar := newBar(c, n)
	done, err := admin.Replay(ctx, pool, r.Subscription, f, admin.ReplayOptions{
		After: r.After, Rate: r.Rate, Progress: func(so admin.Replayed) { bar.set(so.Events) },
	})
	bar.end()
	if err != nil && (done.Events > 0 || ctx.Err() != nil) {
		return r.interrupted(c, done.Events, r.command(done.Last, done.UpTo), err)
	}
	if err != nil {
		return err // there is nothing to go on from
	}
	if r.JSON {
		return c.print(replayed{Subscription: r.Subscription, Events: done.Events, Done: true})
	}
	return c.write(fmt.Sprintf("%s will be handled again by %s.\n", plural(done.Events, "event", "events"), plain.Quote(r.Subscription)))
}

// interrupted says how far it got, and how to go on.
func (r *replayCommand) interrupted(c *console, total int64, resume string, err error) error {
	if r.JSON {
		if err := c.print(replayed{Subscription: r.Subscription, Events: total, Resume: resume}); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.err, "%s will be handled again by %s. To go on from here:\n\n\t%s\n\n", plural(total, "event", "events"), plain.Quote(r.Subscription), resume)
	return err
}

// command is what goes on behind an event, up to another: times mean the same whenever it is run.
func (r *replayCommand) command(after, upTo int64) string {
	words := []string{"outbox", "replay", r.Subscription}
	add := func(flag, value string) {
		if value != "" && value != "0" {
			words = append(words, flag, value)
		}
	}
	if r.Outbox != (outbox.Outbox{}) {
		add("--outbox", r.Outbox.String())
	}
	add("--from", r.From.argument)
	add("--topic", r.Topic)
	add("--key", r.Key)
	add("--payload", r.Payload)
	if !r.Since.IsZero() {
		add("--since", r.Since.argument())
	}
	if !r.Until.IsZero() {
		add("--until", r.Until.argument())
	}
	add("--min-id", strconv.FormatInt(r.MinID, 10))
	add("--max-id", strconv.FormatInt(upTo, 10))
	add("--rate", strconv.Itoa(r.Rate))
	add("--after", strconv.FormatInt(after, 10))
	if r.JSON {
		words = append(words, "--json")
	}
	for i, word := range words {
		words[i] = plain.Shell(word)
	}
	return strings.Join(append(words, "--yes"), " ")
}

func estimateText(n admin.Estimate) string {
	if n.Estimated {
		return "About " + plural(n.Events, "event", "events")
	}
	return plural(n.Events, "event", "events")
}

// A bar shows how far it is, where there is somebody to see it.
type bar struct{ shown *progressbar.ProgressBar }

func newBar(c *console, n admin.Estimate) bar {
	terminal, ok := c.err.(*os.File)
	if !ok || !cli.IsTerminal(terminal) {
		return bar{}
	}
	options := []progressbar.Option{
		progressbar.OptionSetWriter(terminal),
		progressbar.OptionSetDescription("replaying"),
		progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100 * time.Millisecond),
	}
	if width, _, err := term.GetSize(int(terminal.Fd())); err == nil && width < roomForRate {
		options = append(options, progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
	} else {
		options = append(options, progressbar.OptionShowIts(), progressbar.OptionSetItsString("events"))
	}
	return bar{progressbar.NewOptions64(max(n.Events, 1), options...)}
}

// roomForRate is how many columns a bar may take with its rate and times. One that wraps is drawn line after line.
const roomForRate = 80

func (b bar) set(n int64) {
	if b.shown == nil {
		return
	}
	if n > b.shown.GetMax64() {
		b.shown.ChangeMax64(n) // it was an estimate
	}
	_ = b.shown.Set64(n)
}

// end leaves it where it is, and goes on below.
func (b bar) end() {
	if b.shown != nil {
		_ = b.shown.Exit()
		_, _ = progressbar.Bprintln(b.shown)
	}
}
