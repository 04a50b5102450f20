package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/dashboard"
	"github.com/signalbox-go/signalbox/worker"
)

const (
	// pagesLog is how large the log is, in backlogs, and pagesDead which events of it are dead letters: one in so many.
	pagesLog, pagesDead = 5, 25
	// pagesCalls is how often each page is asked for, after a first time that does not count.
	pagesCalls = 9

	viaDashboard = "dashboard"
	viaCommand   = "outbox"
)

// dashboardPages are all that it has, with {names} for what is known only when the log is there.
var dashboardPages = []string{
	"", "subscription?name={subscription}", "workers",
	"events", "events?after={middle}", "events?key={key}", "events?topic=bench.*&since=1h", "events?topic=none.>",
	`events?contains={"n":{n}}`,
	"event?id={middle}", "event?id={dead}", "payload?id={middle}",
	"deadletters?subscription={subscription}", "deadletters?subscription={subscription}&after={dead}",
	"deadletters?subscription={subscription}&error={error}", "deadletters?subscription={subscription}&key={key}",
	"deadletters?subscription={subscription}&error=nowhere", "deadletters?subscription={subscription}&state=retrying",
	"confirm?subscription={subscription}&do=retry-all", "confirm?subscription={subscription}&do=retry-all&error={error}",
	"replay?name={subscription}", "replay?name={subscription}&from=1h&key={key}",
}

// commands are those that list or show, with what they are asked for most.
var commands = []string{
	"status", "doctor",
	"events list", "events list --newest", "events list --after {middle}", "events list --key {key}", "events list --topic bench.* --since 1h --newest",
	"events show {middle}", "events show {dead}",
	"subscriptions list", "subscriptions show {subscription}",
	"deliveries list -s {subscription}", "deliveries list -s {subscription} --after {dead}", "deliveries list -s {subscription} --error {error}", "deliveries list -s {subscription} --error nowhere",
	"deliveries list -s {subscription} --key {key}", "deliveries list -s {subscription} --state all", "deliveries list -s {subscription} --since 1h",
	"deliveries show {dead} -s {subscription}",
	"replay {subscription} --from beginning", "replay {subscription} --key {key} --since 1h",
}

func pages() stage.Scenario {
	s := stage.Scenario{
		Scenario: report.Scenario{
			Number: 13,
			Title:  "Pages",
			Method: `A log of five backlogs, of which one event in 25 is a dead letter with one of 20 errors, vacuumed and analyzed, and an idle worker. Each page
of the dashboard is opened nine times, after a first time that does not count, by a handler that has nothing cached; and each command that lists, shows or says
what it would do is run nine times with --json, from the start of its process to its end. What is in braces is chosen from the middle of the log. One round.`,
			Columns: []report.Column{{Key: "median", Title: "median ms"}, {Key: "most", Title: "greatest ms"}, {Key: "kib", Title: "KiB"}},
		},
		Once: true,
		Cells: func(e *stage.Env) []stage.Cell {
			large := &largeLog{env: e}
			var cells []stage.Cell
			for _, path := range dashboardPages {
				cells = append(cells, stage.Cell{Name: "/" + path, System: viaDashboard, Run: large.cell(func(ctx context.Context) (int64, error) { return large.open(ctx, path) })})
			}
			for _, args := range commands {
				cells = append(cells, stage.Cell{Name: args, System: viaCommand, Run: large.cell(func(ctx context.Context) (int64, error) { return large.run(ctx, args) })})
			}
			return cells
		},
	}
	add := func(name, via string) {
		s.Targets = append(s.Targets, report.Target{What: via + " " + name, Of: report.Ref{Case: name, System: via, Value: "median"}, AtMost: 300, Unit: "ms"})
	}
	for _, path := range dashboardPages {
		add("/"+path, viaDashboard)
	}
	for _, args := range commands {
		add(args, viaCommand)
	}
	return s
}

// A largeLog is what all pages are about. It is made when the first one asks.
type largeLog struct {
	env   *stage.Env
	fault error // why there is none
	d     *stage.Database
	site  *site
	names *strings.Replacer // what is in braces
}

// cell measures calls, which return how many bytes came.
func (l *largeLog) cell(call func(context.Context) (int64, error)) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		if l.d == nil && l.fault == nil {
			l.fault = l.make(ctx)
		}
		if l.fault != nil {
			return fmt.Errorf("make a large log: %w", l.fault)
		}
		size, err := call(ctx)
		if err != nil {
			return err
		}
		if size == 0 {
			return errors.New("nothing came")
		}
		m.Begin()
		median, most, err := timed(func() error { _, err := call(ctx); return err })
		m.End()
		if err != nil {
			return err
		}
		m.Set("median", median)
		m.Set("most", most)
		m.Set("kib", float64(size)/1024)
		return nil
	}
}

// timed returns the median of how long calls took, and the most, in milliseconds.
func timed(call func() error) (median, most float64, err error) {
	var took []time.Duration
	for range pagesCalls {
		start := time.Now()
		if err := call(); err != nil {
			return 0, 0, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return ms(took[len(took)/2]), ms(took[len(took)-1]), nil
}

// open opens a page of the dashboard.
func (l *largeLog) open(ctx context.Context, path string) (int64, error) {
	path, query, _ := strings.Cut(l.names.Replace(path), "?")
	var pairs []string
	for _, pair := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' }) {
		name, value, _ := strings.Cut(pair, "=")
		pairs = append(pairs, name+"="+url.QueryEscape(value))
	}
	return fetch(ctx, l.site.url+path+"?"+strings.Join(pairs, "&"))
}

// run runs a command.
func (l *largeLog) run(ctx context.Context, line string) (int64, error) {
	var args []string
	for _, arg := range strings.Fields(line) {
		args = append(args, l.names.Replace(arg)) // which may have spaces
	}
	cmd, err := l.env.Operate(ctx, l.d, append(args, "--json")...)
	if err != nil {
		return 0, err
	}
	var stdout, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &complaints
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	const findings = 1 // of outbox doctor
	var document json.RawMessage
	if err := stage.Answer(cmd, &stdout, &document, findings); err != nil {
		return 0, fmt.Errorf("%w: %s", err, bytes.TrimSpace(complaints.Bytes()))
	}
	return int64(len(document)), nil
}

// make makes the log, has it handled, and leaves its worker and a dashboard running until the run ends.
func (l *largeLog) make(ctx context.Context) error {
	ours, n := l.env.Systems[0], int64(l.env.Events)*pagesLog
	d, err := l.env.FilledBy(ctx, ours, n, stage.CopyRaw)
	if err != nil {
		return err
	}
	l.env.AtEnd(d.Close)
	if err := l.handle(ctx, d, n); err != nil {
		return err
	}
	if err := d.Calm(ctx); err != nil {
		return err
	}
	var dead int64
	err = d.Pool.QueryRow(ctx, `select percentile_disc(0.5) within group (order by d.event_id) from outbox.deliveries d where d.state = 'dead'`).Scan(&dead)
	if err != nil {
		return err
	}
	l.names = strings.NewReplacer("{subscription}", systems.DefaultSubscription, "{middle}", strconv.FormatInt(n/2, 10),
		"{dead}", strconv.FormatInt(dead, 10), "{key}", stage.Event(pagesDead*7).Key, "{n}", strconv.FormatInt(n/2, 10), "{error}", refusalOf(7*pagesDead))
	if l.site, err = serve(freshDashboards(d)); err != nil {
		return err
	}
	l.env.AtEnd(l.site.close)
	l.d = d
	_, err = l.env.Tool(ctx)
	return err
}

// freshDashboards are a dashboard for each request: one that has not looked before.
func freshDashboards(d *stage.Database) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler, err := dashboard.NewHandler(d.Pool, dashboard.Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// handle has all events handled.
func (l *largeLog) handle(ctx context.Context, d *stage.Database, n int64) error {
	var handled atomic.Int64
	w, err := worker.New(d.Pool, worker.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	err = worker.Handle(w, worker.Subscription{Name: systems.DefaultSubscription, Topics: []string{systems.Topic}},
		func(_ context.Context, e *worker.Event[json.RawMessage]) error {
			handled.Add(1)
			if n := stage.Sequence(e.Payload); n%pagesDead == 0 {
				return worker.DeadLetter(errors.New(refusalOf(n) + "\nas it has all morning"))
			}
			return nil
		})
	if err != nil {
		return err
	}
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- w.Run(working) }()
	l.env.AtEnd(func() {
		cancel()
		if err := <-done; err != nil {
			l.env.Progress("the worker of the large log: %v", err)
		}
	})
	err = stage.Progress(ctx, n, handled.Load, func() error {
		select {
		case err := <-done:
			done <- err
			return fmt.Errorf("its worker ended: %w", err)
		default:
			return nil
		}
	})
	if err != nil {
		return err
	}
	var failed error
	err = stage.Await(ctx, time.Minute, "all dead letters are there", func() bool {
		var found int64
		failed = d.Pool.QueryRow(ctx, `select count(*) from outbox.deliveries d where d.state = 'dead'`).Scan(&found)
		return failed != nil || found == n/pagesDead
	})
	return errors.Join(err, failed)
}

// refusalOf is the first line of the n-th event's error.
func refusalOf(n int64) string { return fmt.Sprintf("mail server %d refused", n/pagesDead%20) }
