package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/report"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/webhook"
	"github.com/signalbox-go/signalbox/worker"
)

const (
	// allEndpoints is how many there are, of which the last badEndpoints are dead, slow or say 429, a third of them each.
	allEndpoints, badEndpoints = 1000, 30
	endpointKeys               = 4   // of each endpoint
	endpointRate               = 500 // events a second
	endpointSlow               = 5 * time.Second
	endpointBacklog            = 20_000 // events that wait for the bad ones
	// backlogFrom is the number of the first event of the backlog.
	backlogFrom = 1 << 40
)

// An endpointCase is what the bad endpoints have waiting for them when it is measured.
type endpointCase struct {
	name    string
	backlog int64
}

func endpoints(s scale) stage.Scenario {
	cases := []endpointCase{{"500 events/s", 0}, {"500 events/s, and a backlog of the bad ones", s.count(endpointBacklog, 60)}}
	sc := stage.Scenario{
		Scenario: report.Scenario{
			Number: 20,
			Title:  "Webhook endpoints",
			Method: `1,000 webhook endpoints in one subscription, with four keys each, at one HTTPS server in the same process: 970 answer at once, 10 are dead, 10 take 5 s, and
10 say 429. Then the same with events of the 970 alone. Latency is that of the 970, from the commit to the receiver. "Of what is allowed" is the p99, as part of
1.5 times that of the 970 alone, or of 5 ms more than it if that is more. The backlog of the second case is 20,000 events of the bad ones, each with a key of its own. Rows are deliveries, at
most. Afterwards, the bad ones are mended, and "drained" is when everything was delivered. A case counts only if every event was, and nothing is left.`,
			Columns: []report.Column{
				{Key: "p99", Title: "p99 ms"},
				{Key: "p99 alone", Title: "alone: p99 ms"},
				{Key: "allowed", Title: "p99: of what is allowed"},
				{Key: "p50", Title: "p50 ms"},
				{Key: "p50 alone", Title: "alone: p50 ms"},
				{Key: "rows", Title: "rows"},
				{Key: "drained", Title: "drained after s"},
				{Key: "disordered", Title: "out of order"},
				{Key: "dead", Title: "dead letters"},
			},
		},
		Cells: func(e *stage.Env) []stage.Cell {
			var cells []stage.Cell
			for _, c := range cases {
				cells = append(cells, stage.Cell{
					Name: c.name, System: systems.Signalbox,
					Run: func(ctx context.Context, m *stage.Measurement) error { return c.compare(ctx, e, m) },
				})
			}
			return cells
		},
	}
	for _, c := range cases {
		target := func(what, value string, most float64, unit string) {
			sc.Targets = append(sc.Targets, report.Target{
				What: c.name + ": " + what, Of: report.Ref{Case: c.name, System: systems.Signalbox, Value: value}, AtMost: most, Unit: unit,
			})
		}
		target("p99", "allowed", 1, "of what is allowed")
		target("out of order", "disordered", none, "")
		target("dead letters", "dead", none, "")
	}
	return sc
}

// compare measures the good endpoints beside the bad ones, and alone.
func (c *endpointCase) compare(ctx context.Context, e *stage.Env, m *stage.Measurement) error {
	m.Begin()
	defer m.End()
	with, err := c.measure(ctx, e, m, true)
	if err != nil {
		return err
	}
	alone, err := c.measure(ctx, e, m, false)
	if err != nil {
		return fmt.Errorf("without the bad ones: %w", err)
	}
	p99, p99Alone := with.Milliseconds(99), alone.Milliseconds(99)
	m.Set("p99", p99)
	m.Set("p99 alone", p99Alone)
	m.Set("allowed", p99/max(1.5*p99Alone, p99Alone+5))
	m.Set("p50", with.Milliseconds(50))
	m.Set("p50 alone", alone.Milliseconds(50))
	return nil
}

// measure measures the good endpoints, and sets what is about all.
func (c *endpointCase) measure(ctx context.Context, e *stage.Env, m *stage.Measurement, bad bool) (span *stage.Span, err error) {
	d, err := e.Open(ctx, e.Systems[0])
	if err != nil {
		return nil, err
	}
	defer d.Close()
	h := newHooks(d, e.Systems[0], bad)
	defer h.close()
	sink, err := webhook.New(webhook.Config{Endpoints: h.endpoint, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, TLS: h.tls, Logger: systems.Quiet})
	if err != nil {
		return nil, err
	}
	defer sink.Close()
	w, err := worker.New(d.Pool, worker.Config{Logger: systems.Quiet})
	if err != nil {
		return nil, err
	}
	sub := worker.Subscription{Name: systems.DefaultSubscription, Topics: []string{"hooks.*"}, BreakerAfter: worker.Unlimited}
	if err := relay.Handle(w, sub, sink, relay.Config{Encoding: relay.Plain}); err != nil {
		return nil, err
	}
	if bad {
		if err := h.fill(ctx, c.backlog); err != nil {
			return nil, err
		}
	}
	stop := running(ctx, w)
	defer func() {
		h.mend() // or those that are slow hold up the end
		err = errors.Join(err, stop())
	}()
	if err := h.First(ctx, &h.Handled); err != nil {
		return nil, err
	}
	rows := watchBy(ctx, d, `select count(*), (select count(*) from outbox.held_keys) from outbox.deliveries`)
	err = h.While(ctx, func() error {
		if err := stage.Pause(ctx, warmUp(e)); err != nil {
			return err
		}
		span, err = h.Observe(ctx, e.Duration)
		return err
	})
	if err = errors.Join(err, rows.stop()); err != nil {
		return nil, err
	}
	start := time.Now()
	h.mend()
	all := h.published.Load()
	if err := stage.Progress(ctx, all, h.handled, func() error { return nil }); err != nil {
		return nil, fmt.Errorf("%w (%d of %d messages were delivered, %d out of order)", err, h.handled(), all, h.lines.disordered)
	}
	drained := time.Since(start)
	dead, err := leftovers(ctx, d)
	if bad {
		m.Set("rows", float64(rows.rows))
		m.Set("drained", drained.Seconds())
		m.Set("disordered", float64(h.lines.disordered))
		m.Set("dead", float64(dead))
	}
	return span, err
}

// hooks are the endpoints, and traffic for them.
type hooks struct {
	*stage.Service
	d         *stage.Database
	server    *httptest.Server
	tls       *tls.Config
	dead      string // where nothing listens
	secret    webhook.Secret
	lines     *lines          // of each key of each endpoint
	backlog   *stage.Distinct // of the backlog, what was delivered
	published atomic.Int64
	mended    chan struct{}
	mend      func()
}

func newHooks(d *stage.Database, s systems.System, bad bool) *hooks {
	h := &hooks{
		Service: stage.NewService(d, s, stage.SteadyProducers, endpointRate), d: d, lines: newLines(allEndpoints * endpointKeys),
		secret: webhook.NewSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="), mended: make(chan struct{}),
		backlog: stage.NewDistinct(endpointBacklog), dead: unheardURL(),
	}
	h.mend = sync.OnceFunc(func() { close(h.mended) })
	h.Publish = func(ctx context.Context, tx pgx.Tx, n int64) error {
		endpoint := endpointOf(n)
		if isBad(endpoint) && !bad {
			return nil
		}
		key := fmt.Sprintf("%d-%d", endpoint, n/allEndpoints%endpointKeys)
		err := s.Publish(ctx, tx, []systems.Event{{Topic: topicOf(endpoint), Key: key, Payload: stage.Event(n).Payload}})
		if err == nil {
			h.published.Add(1)
		}
		return err
	}
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(h.take))
	h.server.EnableHTTP2 = true
	h.server.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(h.server.Certificate())
	h.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	return h
}

func (h *hooks) close() {
	h.mend()
	h.server.Close()
}

// handled is how many messages were delivered.
func (h *hooks) handled() int64 { return h.lines.handled() + h.backlog.Count.Load() }

// endpointOf returns the endpoint of an event. The bad ones are spread over the others.
func endpointOf(n int64) int64 { return n * 919 % allEndpoints }

// isBad reports whether an endpoint is.
func isBad(endpoint int64) bool { return endpoint >= allEndpoints-badEndpoints }

func topicOf(endpoint int64) string { return fmt.Sprintf("hooks.%d", endpoint) }

// fill publishes the backlog of the bad endpoints.
func (h *hooks) fill(ctx context.Context, n int64) error {
	_, err := outbox.PublishFrom(ctx, h.d.Pool, func(yield func(outbox.Event, error) bool) {
		for i := range n {
			e := outbox.Event{
				Topic: topicOf(allEndpoints - badEndpoints + i%badEndpoints), Key: fmt.Sprintf("waits-%d", i),
				Payload: fmt.Appendf(nil, `{"n":%d}`, backlogFrom+i),
			}
			if !yield(e, nil) {
				return
			}
		}
	})
	h.published.Add(n)
	return err
}

// endpoint returns the endpoint of a topic. One of three bad ones is dead until it is mended.
func (h *hooks) endpoint(_ context.Context, name string) (webhook.Endpoint, error) {
	e := webhook.Endpoint{URL: h.server.URL + "/" + name, Secrets: []webhook.Secret{h.secret}}
	number, err := strconv.ParseInt(strings.TrimPrefix(name, "hooks."), 10, 64)
	if err != nil {
		return e, webhook.ErrUnknownEndpoint
	}
	if isBad(number) && number%3 == 0 && !h.isMended() {
		e.URL = h.dead + "/" + name
	}
	return e, nil
}

func (h *hooks) isMended() bool {
	select {
	case <-h.mended:
		return true
	default:
		return false
	}
}

// take is the server.
func (h *hooks) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	number, _ := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/hooks."), 10, 64)
	switch {
	case !isBad(number) || h.isMended():
	case number%3 == 1:
		w.WriteHeader(http.StatusTooManyRequests)
		return
	default:
		select {
		case <-h.mended:
		case <-time.After(endpointSlow):
		case <-r.Context().Done():
			return
		}
	}
	n := stage.Sequence(body)
	if n >= backlogFrom {
		h.backlog.Add(n - backlogFrom)
		return
	}
	h.lines.done(n)
	if !isBad(number) {
		_ = h.Handle(r.Context(), body) // it never fails
	}
}

// unheardURL is where nothing listens.
func unheardURL() string {
	const nowhere = "https://127.0.0.1:9" // discard
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nowhere
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}
