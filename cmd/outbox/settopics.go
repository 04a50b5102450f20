package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

type subscriptionsSetTopicsCommand struct {
	Name         string   `arg:"" help:"The subscription's name."`
	Topics       []string `arg:"" help:"All topics that it shall have. * stands for one token, > for the rest."`
	BackfillFrom place    `env:"-" placeholder:"PLACE" help:"Also handle events of added topics that were published since: an id, a time (UTC unless it has a zone), how long ago (7d), or the beginning."`
	confirmation
	asJSON
	cli.Database
}

// Help is what "outbox subscriptions set-topics --help" explains.
func (*subscriptionsSetTopicsCommand) Help() string {
	return `Changes the topics of a subscription while its workers run: name all topics that it shall have. Asks for confirmation unless --yes is
given.

	outbox subscriptions set-topics mails 'orders.*' accounts.closed
	outbox subscriptions set-topics mails 'orders.*' accounts.closed --backfill-from 7d --yes

First deploy workers that know all of these topics. Older workers leave the subscription to those that do, until a rollback removes the
topics again. Unread events are matched with the new topics. The subscription handles every event of an added topic that commits from now
on, and with --backfill-from also those published since, in order by key. In doubt, begin before the deploy: events may be handled again.
Deliveries of a removed topic stay.

The change happens as soon as the workers release the subscription's lanes, which takes about a second. Ctrl-C stops waiting, but does not
cancel the change: to revert it, set the topics to what they were.`
}

func (s *subscriptionsSetTopicsCommand) Run(ctx context.Context, c *console) error {
	pool, err := open(ctx, s.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	o := admin.TopicsOptions{BackfillFrom: s.BackfillFrom.position}
	question, err := s.question(ctx, pool, o)
	if err != nil {
		return err
	}
	if err := c.confirm(ctx, s.confirmation, question); err != nil {
		return err
	}
	before, err := admin.GetSubscription(ctx, pool, s.Name)
	if err != nil {
		return err
	}
	change, err := admin.SetTopics(ctx, pool, s.Name, s.Topics, o)
	if ctx.Err() != nil && err != nil {
		return s.interrupted(ctx, c, pool, err)
	}
	if err != nil {
		return err
	}
	if len(before.Workers) > 0 && !s.served(ctx, pool) {
		fmt.Fprintf(c.err, "No worker knows all of these topics yet, and nothing of %s is handled until one does: deploy it, or set the topics to what they were.\n", plain.Quote(s.Name))
	}
	if s.JSON {
		return c.print(change)
	}
	text := fmt.Sprintf("%s has the topics %s.", plain.Quote(s.Name), plain.Quote(strings.Join(change.Topics, " ")))
	if change.UpTo > 0 {
		text += fmt.Sprintf(" Before, it had %s, up to event %d.", plain.Quote(strings.Join(change.Before, " ")), change.UpTo)
	}
	if s.BackfillFrom.argument != "" {
		text += fmt.Sprintf(" %s back-filled.", plural(change.Backfilled, "event is", "events are"))
	}
	return c.write(text + "\n")
}

// servedWithin is how long workers may take to join with the new topics.
const servedWithin = 3 * time.Second

// served reports whether a worker knows the topics.
func (s *subscriptionsSetTopicsCommand) served(ctx context.Context, pool *database) bool {
	looks := time.NewTicker(servedWithin / 30)
	defer looks.Stop()
	for deadline := time.Now().Add(servedWithin); ; {
		row, err := admin.GetSubscription(ctx, pool, s.Name)
		if err != nil || len(row.Workers) > 0 { // or it is not known
			return true
		}
		select {
		case <-ctx.Done():
			return true
		case now := <-looks.C:
			if now.After(deadline) {
				return false
			}
		}
	}
}

// question says what would change.
func (s *subscriptionsSetTopicsCommand) question(ctx context.Context, pool *database, o admin.TopicsOptions) (string, error) {
	row, err := admin.GetSubscription(ctx, pool, s.Name)
	if err != nil {
		return "", err
	}
	not := func(list, in []string) string {
		return strings.Join(slices.DeleteFunc(slices.Clone(list), func(t string) bool { return slices.Contains(in, t) }), " ")
	}
	var parts []string
	if added := not(s.Topics, row.Topics); added != "" {
		parts = append(parts, "add "+plain.Quote(added))
	}
	if removed := not(row.Topics, s.Topics); removed != "" {
		parts = append(parts, "remove "+plain.Quote(removed)+", of which no more events are read")
	}
	if s.BackfillFrom.argument != "" {
		n, err := admin.CountBackfill(ctx, pool, s.Name, s.Topics, o.BackfillFrom)
		if err != nil {
			return "", err
		}
		parts = append(parts, "back-fill "+strings.ToLower(estimateText(n)[:1])+estimateText(n)[1:])
	}
	if len(parts) == 0 {
		parts = []string{"keep them as they are"}
	}
	return fmt.Sprintf("Topics of %q: %s", s.Name, strings.Join(parts, "; ")), nil
}

// interrupted says whether something is left to do.
func (s *subscriptionsSetTopicsCommand) interrupted(ctx context.Context, c *console, pool *database, err error) error {
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	text := "Nothing was changed."
	if row, failure := admin.GetSubscription(look, pool, s.Name); failure == nil && row.TopicsTo != nil {
		text = fmt.Sprintf("%s will have the topics %s as soon as its workers release its lanes.", plain.Quote(s.Name), plain.Quote(strings.Join(row.TopicsTo, " ")))
	}
	fmt.Fprintf(c.err, "\n%s\n\n", text)
	return err
}
