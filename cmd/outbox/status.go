package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

type statusCommand struct {
	Watch bool `short:"w" env:"-" help:"Go on until Ctrl-C, with a look each second."`
	asJSON
	cli.Database
}

// Help is what "outbox status --help" explains.
func (*statusCommand) Help() string {
	return `Tells how far each subscription is behind, who works for it, and whether the doorbell is answered. It changes nothing.
First come, after !, the things to look at: subscriptions that are paused, have no worker or only fail, dead
letters, keys that are held for long, an open circuit breaker, lanes that are full, and who keeps the log from being deleted.

	outbox status
	outbox status --watch                 # redraws on a terminal; Ctrl-C ends it
	outbox status --watch --json          # a line each second
	outbox status --json | jq '.subscriptions[] | select(.lag.seconds > 60) | .name'

Lag counts events that a subscription has yet to read; ~ marks an estimate. Events that failed, or wait behind one that
did (blocked), are counted apart, as deliveries. Keys with many of those are held: "outbox keys list". The oldest unfinished event is the oldest of all of these. The doorbell is armed while publishers ring it themselves, polling while they are so
many that a worker looks for them instead, and unattended when no worker is there to answer it.`
}

// watchInterval is how often a status is looked at.
const watchInterval = time.Second

func (s *statusCommand) Run(ctx context.Context, c *console) error {
	pool, err := open(ctx, s.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	if !s.Watch {
		return s.look(ctx, c, pool)
	}
	screen := newScreen(c)
	looks := time.NewTicker(watchInterval)
	defer looks.Stop()
	for {
		if err := s.look(ctx, screen, pool); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-looks.C:
		}
	}
}

// look prints the status once.
func (s *statusCommand) look(ctx context.Context, c *console, pool *database) error {
	status, err := admin.GetStatus(ctx, pool)
	if err != nil {
		return err
	}
	if s.JSON {
		return c.print(status)
	}
	return c.write(statusText(c.outbox, status))
}

// statusText is a status for people.
func statusText(n naming.Name, s *admin.Status) string {
	var b strings.Builder
	workers := s.Workers
	now := s.At // the times were written by the same clock
	if lines := concernsText(n, s); len(lines) > 0 {
		b.WriteString("! " + strings.Join(lines, "\n! ") + "\n\n")
	}
	if len(s.Subscriptions) == 0 {
		b.WriteString("There is no subscription yet: a worker creates its own when it starts.\n")
	} else {
		header := "SUBSCRIPTION\tTOPICS\tLAG\tOLDEST UNFINISHED\tDELIVERIES\tHELD KEYS\tLANES"
		relays := slices.ContainsFunc(s.Subscriptions, func(s admin.SubscriptionStatus) bool { return s.SendsTo != "" })
		if relays {
			header += "\tSENDS TO"
		}
		table(&b, header, s.Subscriptions, func(s admin.SubscriptionStatus) []string {
			cells := []string{plain.Quote(s.Name), plain.Quote(strings.Join(s.Topics, " ")), lagText(s.Lag), oldestText(s, now), counts(s.Deliveries), heldKeysText(s), lanesText(workers, s.Lanes)}
			if relays {
				cells = append(cells, plain.Line(s.SendsTo))
			}
			return cells
		})
	}
	b.WriteByte('\n')
	if len(s.Workers) == 0 {
		b.WriteString("No worker is there.\n")
	} else {
		table(&b, "WORKER\tID\tSUBSCRIPTIONS\tUP\tSEEN\tROLE", s.Workers, func(w admin.WorkerStatus) []string {
			role := ""
			switch {
			case !w.Live:
				role = "dead"
			case w.Sentinel:
				role = "sentinel"
			}
			return []string{
				plain.Quote(w.Name), strconv.FormatInt(w.ID, 10), plain.Quote(strings.Join(w.Subscriptions, " ")),
				age(now.Sub(w.StartedAt)), age(now.Sub(w.SeenAt)) + " ago", role,
			}
		})
	}
	fmt.Fprintf(&b, "\nThe doorbell is %s.\n", doorbellText(s.Doorbell))
	if s.Log.OldestAt != nil {
		fmt.Fprintf(&b, "The log begins with event %d, %s ago%s.\n", s.Log.OldestID, age(now.Sub(*s.Log.OldestAt)), heldText(s.Log.HeldBy))
	}
	return b.String()
}

func lagText(l admin.Lag) string {
	if l.Estimated {
		return fmt.Sprintf("~%d", l.Events)
	}
	return strconv.FormatInt(l.Events, 10)
}

// heldKeysText is how many keys are held.
func heldKeysText(s admin.SubscriptionStatus) string {
	if s.HeldKeys == 0 {
		return ""
	}
	return number(s.HeldKeys)
}

// oldestText is the age of the oldest unfinished event, and what holds it.
func oldestText(s admin.SubscriptionStatus, now time.Time) string {
	if s.Oldest == nil {
		return ""
	}
	return age(now.Sub(s.Oldest.PublishedAt)) + ", " + string(s.Oldest.State)
}

func heldText(by []string) string {
	if len(by) == 0 {
		return ""
	}
	names := make([]string, len(by))
	for i, name := range by {
		names[i] = plain.Quote(name)
	}
	return ", which is yet to be settled by " + strings.Join(names, ", ")
}

func doorbellText(mode admin.Doorbell) string {
	switch mode {
	case admin.DoorbellArmed:
		return "armed: publishers ring it"
	case admin.DoorbellPolling:
		return "polling: so much is published that the sentinel looks for it"
	case admin.DoorbellUnattended:
		return "unattended: no worker answers it"
	}
	return string(mode)
}
