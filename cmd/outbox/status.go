package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox"
)

type statusCommand struct {
	JSON bool `name:"json" help:"Print one JSON object."`
	cli.Database
}

// Help is what "outbox status --help" explains.
func (*statusCommand) Help() string {
	return `Tells how far each subscription is behind, who works for it, and whether the doorbell is answered. It changes nothing.

	outbox status
	watch -n 1 outbox status
	outbox status --json | jq '.subscriptions[] | select(.lag.seconds > 60) | .name'

Lag counts events that a subscription has yet to read; ~ marks an estimate. Events that failed, or wait behind one that
did, are counted apart, as deliveries. The doorbell is armed while publishers ring it themselves, polling while they are so
many that a worker looks for them instead, and unattended when no worker is there to answer it.`
}

func (c *statusCommand) run(ctx context.Context, stdout io.Writer) error {
	pool, err := cli.Connect(ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	// Else a missing table would have to tell that the schema is.
	if err := migrations.Outbox.Check(ctx, pool); err != nil {
		return err
	}
	status, err := outbox.ReadStatus(ctx, pool)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(stdout).Encode(status)
	}
	// Ages are by the database's clock, which wrote the times.
	var now time.Time
	if err := pool.QueryRow(ctx, `select clock_timestamp()`).Scan(&now); err != nil {
		return fmt.Errorf("read the database's clock: %w", err)
	}
	_, err = io.WriteString(stdout, statusText(status, now))
	return err
}

// statusText is a status for people.
func statusText(s *outbox.Status, now time.Time) string {
	var b strings.Builder
	if len(s.Subscriptions) == 0 {
		b.WriteString("There is no subscription yet: a worker creates its own when it starts.\n")
	} else {
		table(&b, "SUBSCRIPTION\tTOPICS\tLAG\tBEHIND\tDELIVERIES\tLANES", s.Subscriptions, func(s outbox.SubscriptionStatus) []string {
			return []string{printable(s.Name), printable(strings.Join(s.Topics, " ")), lagText(s.Lag), behindText(s.Lag), counts(s.Deliveries, ""), counts(s.Lanes, "nobody")}
		})
	}
	b.WriteByte('\n')
	if len(s.Workers) == 0 {
		b.WriteString("No worker is there.\n")
	} else {
		table(&b, "WORKER\tID\tSUBSCRIPTIONS\tUP\tSEEN\tROLE", s.Workers, func(w outbox.WorkerStatus) []string {
			role := ""
			if w.Sentinel {
				role = "sentinel"
			}
			return []string{
				printable(w.Name), strconv.FormatInt(w.ID, 10), printable(strings.Join(w.Subscriptions, " ")),
				age(now.Sub(w.StartedAt)), age(now.Sub(w.SeenAt)) + " ago", role,
			}
		})
	}
	fmt.Fprintf(&b, "\nThe doorbell is %s.\n", doorbellText(s.Doorbell))
	return b.String()
}

// table aligns rows under a header. Empty cells get a dash.
func table[T any](b *strings.Builder, header string, rows []T, cells func(T) []string) {
	w := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, header)
	for _, row := range rows {
		texts := cells(row)
		for i := range texts {
			if texts[i] == "" {
				texts[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(texts, "\t"))
	}
	_ = w.Flush() // a strings.Builder takes everything
}

func lagText(l outbox.Lag) string {
	if l.Estimated {
		return fmt.Sprintf("~%d", l.Events)
	}
	return strconv.FormatInt(l.Events, 10)
}

func behindText(l outbox.Lag) string {
	if l.Events == 0 {
		return ""
	}
	return age(time.Duration(l.Seconds * float64(time.Second)))
}

// counts lists counts by name, and those of nobody under another one.
func counts[N int | int64](byName map[string]N, nobody string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		label := printable(name)
		if name == "" {
			label = nobody
		}
		list = append(list, fmt.Sprintf("%s: %d", label, byName[name]))
	}
	return strings.Join(list, ", ")
}

// age rounds to what a person wants to know.
func age(d time.Duration) string {
	switch {
	case d < 0: // the row was written between the two looks
		return "0s"
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

func doorbellText(state string) string {
	switch state {
	case "armed":
		return "armed: publishers ring it"
	case "polling":
		return "polling: so much is published that the sentinel looks for it"
	case "unattended":
		return "unattended: no worker answers it"
	}
	return state
}

// printable is a name that somebody chose, without what could disturb a terminal or the table.
func printable(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}
