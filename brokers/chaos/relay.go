package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/proc"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

// relayRole makes this program a relay, with a relayConfig.
const relayRole proc.Role = "SIGNALBOX_CHAOS_RELAY"

const subscription = "chaos"

// attemptTimeout is how long one attempt may take.
const attemptTimeout = 5 * time.Second

// A relayConfig is what a relay process is told.
type relayConfig struct {
	Database    string
	Place       string
	URL         string // of the sink
	Destination string
	Process     int
	Reports     string // file
	Lease       time.Duration
}

// runRelay is the life of a relay process. It returns its exit code. The sink is what wrap makes of it.
func runRelay(wrap func(relay.Sink) relay.Sink) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	proc.EndWithParent()
	if err := serve(ctx, wrap); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	return 0
}

func serve(ctx context.Context, wrap func(relay.Sink) relay.Sink) error {
	var cfg relayConfig
	if err := relayRole.Config(&cfg); err != nil {
		return err
	}
	reports, err := os.OpenFile(cfg.Reports, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer reports.Close()
	var sink relay.Sink
	for _, p := range places {
		if p.name == cfg.Place {
			if sink, err = p.open(cfg.URL); err != nil {
				return err
			}
		}
	}
	defer sink.Close()
	pool, err := pgxpool.New(ctx, cfg.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	w, err := worker.New(pool, worker.Config{
		Name: fmt.Sprint("relay-", cfg.Process), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Lease: cfg.Lease, ShutdownTimeout: attemptTimeout,
	})
	if err != nil {
		return err
	}
	err = relay.Handle(w, worker.Subscription{
		Name: subscription, Topics: []string{topic}, Timeout: attemptTimeout,
		Retry: worker.Retry{MaxAttempts: 10_000, Delay: func(failed int) time.Duration { return min(time.Duration(failed)*50*time.Millisecond, time.Second) }},
	}, &reporting{Sink: wrap(sink), reports: reports, process: cfg.Process}, relay.Config{
		Encoding: relay.Plain,
		Route: func(e *outbox.Event) (relay.Route, error) {
			return relay.Route{Destination: cfg.Destination, Key: e.Key}, nil
		},
	})
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

// reporting writes down what is sent, and what is answered.
type reporting struct {
	relay.Sink
	reports *os.File
	process int
	serial  atomic.Int64
}

func (r *reporting) Send(ctx context.Context, m *relay.Message, done func(error)) {
	sent := *m
	sent.Headers = maps.Clone(m.Headers)
	sent.Headers[senderHeader] = strconv.Itoa(r.process)
	serial := r.serial.Add(1)
	r.write(begun, serial, m.ID)
	r.Sink.Send(ctx, &sent, func(err error) {
		if err == nil {
			r.write(succeeded, serial, m.ID)
		} else {
			r.write(failed, serial, m.ID)
		}
		done(err)
	})
}

func (r *reporting) write(w what, serial int64, id string) {
	if _, err := r.reports.Write(report{what: w, process: r.process, serial: serial, at: time.Now().UnixNano(), id: id}.line()); err != nil {
		panic(fmt.Errorf("report: %w", err)) // what is sent and not reported would pass for made up
	}
}
