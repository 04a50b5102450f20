package demo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// introduce tells what runs where.
func (d *demo) introduce(names []string) {
	site := siteOf(d.cfg.Listener.Addr())
	d.out.say("%s\n", d.out.paint(bold, "A service stores signals, each with its event in one transaction. Two subscriptions get every event."))
	if d.cfg.OwnURL != "" {
		d.out.say("  database   PostgreSQL, for this demo alone. Look into it, or run cmd/producer and cmd/worker with this DATABASE_URL:")
		d.out.say("             psql '%s'", d.cfg.OwnURL)
	} else {
		// Without user and password: a story gets copied into tickets.
		config := d.cfg.Pool.Config().ConnConfig
		d.out.say("  database   yours: %s at %s, port %d. The subscriptions are %s there, and are removed at the end.",
			readable(config.Database), readable(config.Host), config.Port, strings.Join(names, " and "))
	}
	d.out.say("  producer   %s. Send a signal of your own:", site)
	d.out.say("             curl -X POST %s/ingest", site)
	d.out.say("  dashboard  %s/ shows all of it, for as long as the demo runs.", siteOf(d.cfg.Dashboard.Addr()))
	for i, label := range labels {
		var workers []string
		for _, m := range d.workers[i*d.cfg.Workers:][:d.cfg.Workers] {
			workers = append(workers, m.label)
		}
		role := "share this subscription"
		if len(workers) == 1 {
			role = "serves this subscription alone"
		}
		if i > 0 {
			role += ", which gets every event as well"
		}
		d.out.say("  %-10s %s %s.", label, listed(workers), role)
	}
	traffic := countOf(d.cfg.Rate, "request") + " a second"
	if d.cfg.Rate == 0 {
		traffic = "none but yours"
	}
	if d.cfg.For > 0 {
		d.out.say("  traffic    %s, for %v. Ctrl-C ends it early.\n", traffic, d.cfg.For)
	} else {
		d.out.say("  traffic    %s, until Ctrl-C.\n", traffic)
	}
}

// listed shortens a long list.
func listed(names []string) string {
	last := len(names) - 1
	switch {
	case last == 0:
		return names[0]
	case last > 3:
		return names[0] + " to " + names[last]
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// shares tells how many events each worker handled, or how many the least and the most busy of many did.
func shares(byWorker map[string]int) string {
	if len(byWorker) > 4 {
		counts := slices.Sorted(maps.Values(byWorker))
		return fmt.Sprintf("%d workers, %d to %d each", len(counts), counts[0], counts[len(counts)-1])
	}
	var list []string
	for _, worker := range slices.Sorted(maps.Keys(byWorker)) {
		list = append(list, fmt.Sprintf("%s: %d", worker, byWorker[worker]))
	}
	return strings.Join(list, ", ")
}

// explainLines tells how to read what follows.
func (d *demo) explainLines() {
	lines := "Each line is an event that every subscription has got: who handled it, and how long after its request was sent."
	if d.flow.condensed {
		lines = "Each line is about a second. Events that the demo did not send itself get lines of their own."
	}
	d.out.say("The workers serve. %s\n", lines)
}

// conclude tells what was shown.
func (d *demo) conclude(r *Report) {
	d.out.say("\n%s", d.out.paint(bold, fmt.Sprintf("Published: %s, %d of them by the demo's own requests.", countOf(r.Published, "event"), r.own)))
	if r.failed > 0 {
		d.out.say("Failed: %s. The log has the signals of %d of them all the same. The last was told: %v", countOf(r.failed, "request"), r.rescued, r.fault)
	}
	if r.passed > 0 {
		d.out.say("Not counted: %s that others published past this demo's producer.", countOf(r.passed, "event"))
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\n  subscription\tdelivered\tduplicates\tmissing\tp50\tp99\thandled by")
	for _, label := range labels {
		t := r.Subscriptions[label]
		fmt.Fprintf(w, "  %s\t%d\t%d\t%d\t%s\t%s\t%s\n", label, t.Delivered, t.Duplicates, t.Missing,
			measured(t.latency.P50), measured(t.latency.P99), shares(t.workers))
	}
	w.Flush()
	d.out.say("%s", table.String())

	if err := r.verdict(); err != nil {
		d.out.say("%s", d.out.paint(red, "✘ "+strings.TrimPrefix(err.Error(), ErrIncomplete.Error()+": ")))
		return
	}
	once := ", exactly once"
	for _, t := range r.Subscriptions {
		if t.Duplicates > 0 {
			once = ", some more than once: a worker was cut off before it had recorded what it handled"
		}
	}
	d.out.say("%s", d.out.paint(green, "✔ Every published event reached every subscription"+once+"."))
	d.out.say("  Publishing was one insert in the signal's own transaction: no signal without its event, and no event without its signal.")
	d.out.say("  The commit rang the doorbell, so no worker had to poll. The latency is all of it, from before the request was sent until")
	d.out.say("  the handler was called. Workers of one subscription shared its events; the other subscription got each of them, too.")
	if d.cfg.OwnURL == "" {
		d.out.say("  The signals stay in public.signals, and their events in %s.events.", d.cfg.Outbox)
	}
}

// measured is a latency, if there was one to measure: requests that the demo did not send have none.
func measured(milliseconds float64) string {
	if milliseconds == 0 {
		return "-"
	}
	return inMilliseconds(milliseconds)
}

func countOf(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
