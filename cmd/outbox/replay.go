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
	From         place  `env:"-" placeholder:"PLACE" help:"Go back there: an id, a time, how long ago (7d), or the beginning. Not with a filter."`
	eventFilter
	Rate  int   `env:"-" default:"0" placeholder:"N" help:"With a filter, at most so many events a second. 0, the default, rests for as long as it works, so that others hardly notice."`
	After int64 `env:"-" placeholder:"ID" help:"With a filter, go on behind this event, where a replay was interrupted."`
	confirmation
	asJSON
	cli.Database
}

// Help is what "outbox replay --help" explains.
func (*replayCommand) Help() string {
	return `Has a subscription handle events again that it has handled. Other subscriptions do not notice. Without --yes it is a dry run: it says
how many events that would be, and changes nothing.

Everything from a place on. The subscription goes back in the log, in the order of keys, as soon as its workers have let go of
it, about a second:

	outbox replay search --from 7d
	outbox replay search --from 2026-01-31T12:00:00Z --yes
	outbox replay search --from beginning --yes

Or just the events that match a filter. They are tried again beside what is new; for most of a log, going back is faster:

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
		return fmt.Errorf("--rate is %d, at least 0 is needed", r.Rate)
	case r.After < 0:
		return fmt.Errorf("--after is %d, the id of an event is needed", r.After)
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
	return c.write(fmt.Sprintf(c.outbox.Advice("%s went back. %s will be handled again: \"outbox status --watch\" shows how it gets on.\n"), plain.Quote(r.Subscription), estimateText(n)))
}

// interruptedRewind says whether somebody has to do something.
func (r *replayCommand) interruptedRewind(ctx context.Context, c *console, pool *database, err error) error {
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if row, failure := subscription(look, pool, r.Subscription); failure == nil && row.RewindTo != nil {
		fmt.Fprintf(c.err, "\nIt is asked for, and %s goes back as soon as its workers have let go of it. To wait for that, run again:\n\n\t%s\n\n",
			plain.Quote(r.Subscription), r.command(0, 0))
	} else {
		fmt.Fprintf(c.err, "\nIt was not begun. To do it:\n\n\t%s\n\n", r.command(0, 0))
	}
	return err
}

// chunk is how many events are taken at once, at most; chunks end in time for a rate to be even.
const (
	replayChunk     = 5000
	chunksPerSecond = 5
	chunkPatience   = time.Minute
)

func (r *replayCommand) events(ctx context.Context, c *console, pool *database) error {
	f := r.filter()
	if r.After > 0 {
		f.MinID = max(f.MinID, r.After+1)
	}
	n, err := admin.CountReplay(ctx, pool, r.Subscription, f)
	if err != nil {
		return err
	}
	if !r.Yes {
		return r.dry(c, n)
	}
	if f.MaxID == 0 {
		// Or it would go on for as long as anybody publishes.
		newest, err := admin.Events(ctx, pool, admin.EventFilter{}, admin.Page{Newest: true, Limit: 1})
		if err != nil {
			return err
		}
		f.MaxID = max(newest.Next, 1)
	}
	bar := newBar(c, n)
	limit := replayChunk
	if r.Rate > 0 {
		limit = max(1, min(limit, r.Rate/chunksPerSecond))
	}
	var (
		begun = time.Now()
		total int64
		last  = r.After
		done  bool
	)
	for !done && ctx.Err() == nil {
		var took int
		started := time.Now()
		took, last, done, err = r.chunk(ctx, pool, f, last, limit)
		if err != nil {
			break
		}
		total += int64(took)
		bar.add(took)
		if !done {
			now := time.Now()
			pause(ctx, r.rest(total, now.Sub(begun), now.Sub(started)))
		}
	}
	bar.end()
	if err == nil && !done {
		err = ctx.Err()
	}
	if err != nil && (total > 0 || ctx.Err() != nil) {
		return r.interrupted(c, total, r.command(last, f.MaxID), err)
	}
	if err != nil {
		return err // there is nothing to go on from
	}
	if r.JSON {
		return c.print(replayed{Subscription: r.Subscription, Events: total, Done: true})
	}
	return c.write(fmt.Sprintf("%s will be handled again by %s.\n", plural(total, "event", "events"), plain.Quote(r.Subscription)))
}

// rest is how long to wait when so many events were taken since the beginning, in so much time, and the last chunk took its part of
// that. Without a rate, what is new has the server to itself for half of the time: its latency is worth more than a replay's end.
func (r *replayCommand) rest(total int64, since, chunk time.Duration) time.Duration {
	if r.Rate == 0 {
		return chunk
	}
	return time.Duration(float64(total)/float64(r.Rate)*float64(time.Second)) - since
}

// chunk takes the next events. An interrupt waits for it: half a chunk taken, and not known, would be taken once more.
func (r *replayCommand) chunk(ctx context.Context, pool *database, f admin.EventFilter, after int64, limit int) (n int, last int64, done bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), chunkPatience)
	defer cancel()
	return admin.ReplayEvents(ctx, pool, r.Subscription, f, after, limit)
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

// pause waits, but not for longer than ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
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

func (b bar) add(n int) {
	if b.shown == nil {
		return
	}
	if sum := b.shown.State().CurrentNum + int64(n); sum > b.shown.GetMax64() {
		b.shown.ChangeMax64(sum) // it was an estimate
	}
	_ = b.shown.Add(n)
}

// end leaves it where it is, and goes on below.
func (b bar) end() {
	if b.shown != nil {
		_ = b.shown.Exit()
		_, _ = progressbar.Bprintln(b.shown)
	}
}
