package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

type subscriptionsCommands struct {
	List      subscriptionsListCommand      `cmd:"" help:"List all subscriptions."`
	Show      subscriptionsShowCommand      `cmd:"" help:"Show a subscription: its topics, workers, lag and deliveries."`
	Create    subscriptionsCreateCommand    `cmd:"" help:"Create a subscription anywhere in the log."`
	SetTopics subscriptionsSetTopicsCommand `cmd:"" help:"Change the topics of a subscription."`
	Pause     subscriptionsPauseCommand     `cmd:"" help:"Have its workers stop handling events."`
	Resume    subscriptionsResumeCommand    `cmd:"" help:"Have its workers go on."`
	Probe     subscriptionsProbeCommand     `cmd:"" help:"Have its workers try at once whether an outage is over."`
	Delete    subscriptionsDeleteCommand    `cmd:"" help:"Delete a subscription with its cursors and deliveries."`
}

type subscriptionsListCommand struct {
	asJSON
	cli.Database
}

// Help is what "outbox subscriptions list --help" explains.
func (*subscriptionsListCommand) Help() string {
	return `Lists all subscriptions by name. How far each is behind is in "outbox status".

	outbox subscriptions list
	outbox subscriptions list --json | jq -r '.subscriptions[] | select(.paused_at) | .name'`
}

func (l *subscriptionsListCommand) Run(ctx context.Context, c *console) error {
	pool, err := open(ctx, l.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	list, err := admin.ListSubscriptions(ctx, pool)
	switch {
	case err != nil:
		return err
	case l.JSON:
		return c.print(map[string]any{"subscriptions": list})
	case len(list) == 0:
		return c.write("There is no subscription yet: a worker creates its own when it starts.\n")
	}
	var b strings.Builder
	header := "SUBSCRIPTION\tTOPICS\tCREATED\tSTATE\tWORKERS\tLANES"
	relays := slices.ContainsFunc(list, func(s admin.Subscription) bool { return s.SendsTo != "" })
	if relays {
		header += "\tSENDS TO"
	}
	table(&b, header, list, func(s admin.Subscription) []string {
		cells := []string{
			plain.Quote(s.Name), plain.Quote(strings.Join(s.Topics, " ")), clock(s.CreatedAt), stateText(s),
			plain.Quote(strings.Join(s.Workers, " ")), fmt.Sprintf("%d of %d", s.Owned, engine.Lanes),
		}
		if relays {
			cells = append(cells, plain.Line(s.SendsTo))
		}
		return cells
	})
	return c.write(b.String())
}

// stateText says what a subscription is in.
func stateText(s admin.Subscription) string {
	switch {
	case s.RewindTo != nil:
		return fmt.Sprintf("goes back behind event %d", *s.RewindTo)
	case s.TopicsTo != nil:
		return "about to have other topics"
	case s.PausedAt != nil:
		return "paused"
	case len(s.Workers) == 0:
		return "not served"
	}
	return "served"
}

type subscriptionsShowCommand struct {
	Name string `arg:"" help:"The subscription's name."`
	asJSON
	cli.Database
}

// Help is what "outbox subscriptions show --help" explains.
func (*subscriptionsShowCommand) Help() string {
	return `Shows a subscription: its topics, who serves it, how far it is behind, and how many deliveries it has in which state.

	outbox subscriptions show mails
	outbox subscriptions show mails --json | jq .lag.events`
}

// A subscriptionView is what "outbox subscriptions show --json" prints.
type subscriptionView struct {
	admin.Subscription
	Lag        admin.Lag              `json:"lag"`
	Oldest     *admin.OldestEvent     `json:"oldest"`
	Deliveries map[outbox.State]int64 `json:"deliveries"`
	Lanes      map[int64]int          `json:"lanes"`

	HeldKeys        int64      `json:"held_keys"`
	HeldSince       *time.Time `json:"held_since"`
	BreakerOpenedAt *time.Time `json:"breaker_opened_at"`
	BreakerTopics   []string   `json:"breaker_topics"`
	FullLanes       int64      `json:"full_lanes"`

	InFlight    int64              `json:"in_flight"`
	LastFailure *admin.LastFailure `json:"last_failure"`
}

func (s *subscriptionsShowCommand) Run(ctx context.Context, c *console) error {
	pool, err := open(ctx, s.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	row, err := admin.GetSubscription(ctx, pool, s.Name)
	if err != nil {
		return err
	}
	status, err := admin.GetStatus(ctx, pool)
	if err != nil {
		return err
	}
	var now admin.SubscriptionStatus
	for _, one := range status.Subscriptions {
		if one.Name == s.Name {
			now = one
		}
	}
	if s.JSON {
		return c.print(subscriptionView{
			Subscription: *row, Lag: now.Lag, Oldest: now.Oldest, Deliveries: now.Deliveries, Lanes: now.Lanes,
			HeldKeys: now.HeldKeys, HeldSince: now.HeldSince, BreakerOpenedAt: now.BreakerOpenedAt, BreakerTopics: now.BreakerTopics,
			FullLanes: now.FullLanes, InFlight: now.InFlight, LastFailure: now.LastFailure,
		})
	}
	var paused, breaker, full, inFlight, failure string
	if row.PausedAt != nil {
		paused = clock(*row.PausedAt)
	}
	if now.BreakerOpenedAt != nil {
		breaker = "open since " + clock(*now.BreakerOpenedAt)
		if len(now.BreakerTopics) > 0 {
			breaker += " for " + topicList(now.BreakerTopics)
		}
	}
	if now.FullLanes > 0 {
		full = number(now.FullLanes) + ", not read until half of what failed in them, or waits behind that, is done"
	}
	if row.SendsTo != "" {
		inFlight = number(now.InFlight)
	}
	if f := now.LastFailure; f != nil {
		failure = fmt.Sprintf("%s ago: %s", age(status.At.Sub(f.At)), plain.Line(f.Error))
	}
	var b strings.Builder
	fields(&b,
		field{"Subscription", plain.Quote(row.Name)},
		field{"Id", strconv.Itoa(int(row.ID))},
		field{"Topics", plain.Quote(strings.Join(row.Topics, " "))},
		field{"Created", clock(row.CreatedAt)},
		field{"Sends to", plain.Line(row.SendsTo)},
		field{"State", stateText(*row)},
		field{"Paused", paused},
		field{"Workers", plain.Quote(strings.Join(row.Workers, " "))},
		field{"Lanes", lanesText(status.Workers, now.Lanes)},
		field{"Lag", lagText(now.Lag)},
		field{"Oldest unfinished", oldestText(now, status.At)},
		field{"Deliveries", counts(now.Deliveries)},
		field{"Held keys", heldKeysText(now)},
		field{"Breaker", breaker},
		field{"Full lanes", full},
		field{"In flight", inFlight},
		field{"Last failure", failure},
	)
	return c.write(b.String())
}

type subscriptionsCreateCommand struct {
	Name   string   `arg:"" help:"The subscription's name."`
	Topics []string `env:"-" required:"" placeholder:"PATTERN" help:"Topics that it sees; repeat for several. * stands for one token, > for the rest."`
	From   place    `env:"-" default:"beginning" placeholder:"PLACE" help:"Where it begins: beginning (default) of what the log still has, now, an id, a time (UTC unless it has a zone), or how long ago (7d)."`
	asJSON
	cli.Database
}

// Help is what "outbox subscriptions create --help" explains.
func (*subscriptionsCreateCommand) Help() string {
	return `Creates a subscription. A worker would do that when it starts, at the beginning of the log; this begins it anywhere.

	outbox subscriptions create mails --topics 'orders.*' --topics accounts.closed
	outbox subscriptions create search --topics '>' --from now
	outbox subscriptions create audit --topics '>' --from 2026-01-31T12:00:00Z

Nothing is lost from then on, whether or not a worker is there: the log is kept for it. One that exists with the same topics
stays as it is, wherever it stands; one with others is refused: "outbox subscriptions set-topics" changes them.`
}

func (s *subscriptionsCreateCommand) Run(ctx context.Context, c *console) error {
	if len(s.Topics) == 0 { // given, and empty
		return &cli.UsageError{Err: errors.New("--topics names no topic")}
	}
	pool, err := open(ctx, s.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	created, err := admin.CreateSubscription(ctx, pool, s.Name, s.Topics, s.From.position)
	if err != nil {
		return err
	}
	if s.JSON {
		made, err := admin.GetSubscription(ctx, pool, s.Name)
		if err != nil {
			return err
		}
		return c.print(map[string]any{"name": made.Name, "topics": made.Topics, "created": created})
	}
	if !created {
		return c.write(fmt.Sprintf("%s exists with these topics, and stays as it is.\n", plain.Quote(s.Name)))
	}
	return c.write(fmt.Sprintf("%s is created, and begins at: %s.\n", plain.Quote(s.Name), s.From.argument))
}

type subscriptionsPauseCommand struct {
	Name string `arg:"" help:"The subscription's name."`
	asJSON
	cli.Database
}

// Help is what "outbox subscriptions pause --help" explains.
func (*subscriptionsPauseCommand) Help() string {
	return `Has the workers of a subscription stop handling its events, within about a second; what they are handling they finish. Nothing is
lost: the log is kept for it, however long that is. Other subscriptions go on.

	outbox subscriptions pause mails`
}

func (s *subscriptionsPauseCommand) Run(ctx context.Context, c *console) error {
	return administer(ctx, c, s.Database, s.asJSON, s.Name, admin.Pause, "is paused")
}

type subscriptionsResumeCommand struct {
	Name string `arg:"" help:"The subscription's name."`
	asJSON
	cli.Database
}

// Help is what "outbox subscriptions resume --help" explains.
func (*subscriptionsResumeCommand) Help() string {
	return `Has the workers of a paused subscription go on where they were, at once.

	outbox subscriptions resume mails`
}

func (s *subscriptionsResumeCommand) Run(ctx context.Context, c *console) error {
	return administer(ctx, c, s.Database, s.asJSON, s.Name, admin.Resume, "goes on")
}

type subscriptionsProbeCommand struct {
	Name string `arg:"" help:"The subscription's name."`
	asJSON
	cli.Database
}

// Help is what "outbox subscriptions probe --help" explains.
func (*subscriptionsProbeCommand) Help() string {
	return `Has the workers of a subscription whose circuit breaker is open try at once whether attempts succeed again. They try by themselves
within 5 seconds; this is for those who do not want to wait. While the breaker is closed, it changes nothing.

	outbox subscriptions probe mails`
}

func (s *subscriptionsProbeCommand) Run(ctx context.Context, c *console) error {
	return administer(ctx, c, s.Database, s.asJSON, s.Name, admin.Probe, "is probed, if its breaker is open")
}

// administer changes a subscription, and says so.
func administer(ctx context.Context, c *console, database cli.Database, as asJSON, name string, change func(context.Context, outbox.DB, string) error, changed string) error {
	pool, err := open(ctx, database)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := change(ctx, pool, name); err != nil {
		return err
	}
	if as.JSON {
		row, err := admin.GetSubscription(ctx, pool, name)
		if err != nil {
			return err
		}
		return c.print(row)
	}
	return c.write(fmt.Sprintf("%s %s.\n", plain.Quote(name), changed))
}

type subscriptionsDeleteCommand struct {
	Name  string `arg:"" help:"The subscription's name."`
	Force bool   `env:"-" help:"Also while workers serve it."`
	confirmation
	asJSON
	cli.Database
}

// Help is what "outbox subscriptions delete --help" explains.
func (*subscriptionsDeleteCommand) Help() string {
	return `Deletes a subscription with its cursors and deliveries, dead letters included. This cannot be undone. Asks for
confirmation unless --yes is given.

	outbox subscriptions delete mails
	outbox subscriptions delete mails --yes

While live workers serve it, it is refused with exit code 4: stop them first. With --force it is deleted nevertheless; a worker
that is told the topics creates it anew.`
}

func (s *subscriptionsDeleteCommand) Run(ctx context.Context, c *console) error {
	pool, err := open(ctx, s.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	question, err := s.question(ctx, pool)
	if err != nil {
		return err
	}
	if err := c.confirm(ctx, s.confirmation, question); err != nil {
		return err
	}
	if err := admin.DeleteSubscription(ctx, pool, s.Name, s.Force); err != nil {
		return err
	}
	if s.JSON {
		return c.print(map[string]any{"name": s.Name, "deleted": true})
	}
	return c.write(fmt.Sprintf("%s is deleted.\n", plain.Quote(s.Name)))
}

// question says what would go. That workers are in the way is said before anybody is asked.
func (s *subscriptionsDeleteCommand) question(ctx context.Context, pool *database) (string, error) {
	row, err := admin.GetSubscription(ctx, pool, s.Name)
	if err != nil {
		return "", err
	}
	if len(row.Workers) > 0 && !s.Force {
		return "", &admin.ServedError{Name: s.Name, Workers: row.Workers}
	}
	n, err := admin.CountDeliveries(ctx, pool, admin.DeliveryFilter{Subscription: s.Name, States: everyState})
	return fmt.Sprintf("Delete subscription %q with %s", s.Name, plural(n, "delivery", "deliveries")), err
}
