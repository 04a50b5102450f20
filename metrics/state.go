package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

const (
	// stateAge is how long what was read of the outbox is good for: several scrapers cost the database what one does.
	stateAge = 5 * time.Second
	// stateTimeout is how long a scrape waits for the database: less than the 10s that Prometheus waits for the scrape.
	stateTimeout = 3 * time.Second
)

var (
	up = prometheus.NewDesc("signalbox_up",
		"1 if the database answered the last time that the outbox's state was read, else 0; then the metrics of that state are missing.", nil, nil)
	lagEvents = prometheus.NewDesc("signalbox_lag_events",
		"Events that the subscription has yet to read, or that the log has of its held keys; an estimate, and never 0, where more than 10,000 of any topic are unread. Deliveries are not among them.", []string{"subscription"}, nil)
	lagSeconds = prometheus.NewDesc("signalbox_lag_seconds",
		"Age of the oldest event that the subscription has yet to read, by the database's clock; 0 if there is none. Where signalbox_lag_events is an estimate, it is that of the oldest one of any topic.", []string{"subscription"}, nil)
	oldestUnfinished = prometheus.NewDesc("signalbox_oldest_unfinished_seconds",
		"Age of the oldest event that the subscription has not finished, whatever holds it: unread, retrying, blocked, held or running; 0 if there is none. "+
			"Where more than 10,000 are retrying or blocked, it is at least so old.", []string{"subscription"}, nil)
	deliveries = prometheus.NewDesc("signalbox_deliveries",
		"Events with a row of their own: to be tried again (retrying), behind an earlier one of their key (blocked), slow (running), given up "+
			"(dead), or set aside (skipped). Exact up to 10,000, retrying and blocked together; a higher number is a lower bound.", []string{"subscription", "state"}, nil)
	heldKeys = prometheus.NewDesc("signalbox_subscription_held_keys",
		"Keys of the subscription that are held: so many of their events wait that later ones stay in the log for now.", []string{"subscription"}, nil)
	breakerOpen = prometheus.NewDesc("signalbox_breaker_open",
		"1 while the circuit breaker of the subscription is open in some worker, because nearly every attempt fails, else 0; for the whole subscription without a topic, or for the one that is named.",
		[]string{"subscription", "topic"}, nil)
	fullLanes = prometheus.NewDesc("signalbox_full_lanes",
		"Lanes of the subscription, of 64, that are full, as of its workers' last heartbeats: so many of their deliveries failed, or wait behind one that did, that they are not read.", []string{"subscription"}, nil)
	inFlight = prometheus.NewDesc("signalbox_in_flight",
		"Events that workers of the subscription have begun to send and that are not acknowledged, as of their last heartbeats; 0 where its handler is no sink.", []string{"subscription"}, nil)
	paused = prometheus.NewDesc("signalbox_subscription_paused",
		"1 while the subscription is paused, else 0.", []string{"subscription"}, nil)
	subscriptionWorkers = prometheus.NewDesc("signalbox_subscription_workers",
		"Live workers that serve the subscription.", []string{"subscription"}, nil)
	unownedLanes = prometheus.NewDesc("signalbox_unowned_lanes",
		"Lanes of the subscription that no live worker owns, of 64. All of them while it is paused.", []string{"subscription"}, nil)
	workers = prometheus.NewDesc("signalbox_workers",
		"Live workers.", nil, nil)
	sentinels = prometheus.NewDesc("signalbox_sentinels",
		"Workers that are the sentinel: 1, or 0 while there is none.", nil, nil)
	doorbell = prometheus.NewDesc("signalbox_doorbell",
		"1 for the mode that the doorbell is in, 0 for the others: armed (publishers ring), polling (the sentinel looks by itself) or unattended.",
		[]string{"mode"}, nil)
	logIDs = prometheus.NewDesc("signalbox_log_ids_total",
		"Ids that the log has assigned: one for each event of any publisher, including those whose transaction was rolled back.", nil, nil)
	logOldest = prometheus.NewDesc("signalbox_log_oldest_timestamp_seconds",
		"When the oldest event that is left in the log was published, as a Unix timestamp. Missing while the log is empty.", nil, nil)
	logHeld = prometheus.NewDesc("signalbox_log_held",
		"1 while the subscription has yet to settle the oldest event of the log, which is therefore kept, else 0.", []string{"subscription"}, nil)
)

// outboxState tells about the outbox as a whole, from its tables.
type outboxState struct {
	pool   *pgxpool.Pool
	outbox outbox.Outbox
	log    *slog.Logger

	mu      sync.Mutex // held while reading: who comes meanwhile waits for the same answer
	readAt  time.Time
	metrics []prometheus.Metric
	fault   string // why it could not be read the last time; "" if it could
}

func (s *outboxState) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		up, lagEvents, lagSeconds, oldestUnfinished, deliveries, heldKeys, breakerOpen, fullLanes, inFlight, paused, subscriptionWorkers, unownedLanes, workers, sentinels, doorbell, logIDs, logOldest, logHeld,
	} {
		descriptions <- d
	}
}

func (s *outboxState) Collect(metrics chan<- prometheus.Metric) {
	for _, m := range s.current() {
		metrics <- m
	}
}

// current returns the metrics, at most stateAge old. A database that does not answer is not asked more often either.
func (s *outboxState) current() []prometheus.Metric {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.readAt.IsZero() && time.Since(s.readAt) < stateAge {
		return s.metrics
	}
	state, err := s.read()
	answered := 1.0
	if err != nil && !forbidden(err) {
		answered = 0
	}
	s.report(err)
	state = append(state, prometheus.MustNewConstMetric(up, prometheus.GaugeValue, answered))
	s.metrics, s.readAt = state, time.Now()
	return state
}

// report logs that the state cannot be read, or can be again, once.
func (s *outboxState) report(err error) {
	switch {
	case err != nil && s.fault == "":
		s.log.Warn("cannot read the outbox's state: its metrics are missing", "error", err)
	case err == nil && s.fault != "":
		s.log.Info("can read the outbox's state again")
	}
	if s.fault = ""; err != nil {
		s.fault = err.Error()
	}
}

// countedUpTo is where deliveries in one state are not counted any more: a scrape costs about the same however many there are.
const countedUpTo = 10_001

// forbidden reports whether an error says that the role may not look: a publisher need not be allowed to.
func forbidden(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == pgerrcode.InsufficientPrivilege
}

// read asks the database, in one snapshot, so that the figures agree with each other.
func (s *outboxState) read() ([]prometheus.Metric, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stateTimeout)
	defer cancel()
	var (
		status        *admin.Status
		subscriptions []admin.Subscription
	)
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) (err error) {
		nested := s.outbox.DB(tx) // whose transactions are inside of this one, and share its snapshot
		// The server gives up with us: scrapes must not pile up there.
		timeout := strconv.FormatInt(stateTimeout.Milliseconds(), 10)
		if _, err = tx.Exec(ctx, `select set_config('statement_timeout', $1, true)`, timeout); err != nil {
			return err
		}
		if status, err = admin.GetStatusUpTo(ctx, nested, countedUpTo); err != nil {
			return err
		}
		subscriptions, err = admin.ListSubscriptions(ctx, nested)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the outbox's state: %w", err)
	}
	return describe(status, subscriptions), nil
}

// describe makes metrics of a status.
func describe(status *admin.Status, subscriptions []admin.Subscription) []prometheus.Metric {
	var list []prometheus.Metric
	add := func(d *prometheus.Desc, value float64, labels ...string) {
		kind := prometheus.GaugeValue
		if d == logIDs {
			kind = prometheus.CounterValue
		}
		list = append(list, prometheus.MustNewConstMetric(d, kind, value, labels...))
	}
	for _, s := range status.Subscriptions {
		name := label(s.Name)
		add(lagEvents, float64(s.Lag.Events), name)
		add(lagSeconds, max(0, s.Lag.Seconds), name)
		oldest := 0.0
		if s.Oldest != nil {
			oldest = max(0, status.At.Sub(s.Oldest.PublishedAt).Seconds())
		}
		add(oldestUnfinished, oldest, name)
		for _, state := range []outbox.State{outbox.Retrying, admin.Blocked, outbox.Running, outbox.Dead, outbox.Skipped} {
			add(deliveries, float64(s.Deliveries[state]), name, string(state))
		}
		add(heldKeys, float64(s.HeldKeys), name)
		add(breakerOpen, oneIf(s.BreakerOpenedAt != nil && len(s.BreakerTopics) == 0), name, "")
		for _, topic := range s.BreakerTopics {
			add(breakerOpen, 1, name, label(topic))
		}
		add(fullLanes, float64(s.FullLanes), name)
		add(inFlight, float64(s.InFlight), name)
		add(unownedLanes, float64(s.Lanes[0]), name)
		add(logHeld, oneIf(slices.Contains(status.Log.HeldBy, s.Name)), name)
	}
	for _, s := range subscriptions {
		add(paused, oneIf(s.PausedAt != nil), label(s.Name))
		add(subscriptionWorkers, float64(len(s.Workers)), label(s.Name))
	}
	live := 0
	for _, w := range status.Workers {
		if w.Live {
			live++
		}
	}
	add(workers, float64(live))
	present := slices.ContainsFunc(status.Workers, func(w admin.WorkerStatus) bool { return w.Sentinel })
	add(sentinels, oneIf(present))
	for _, mode := range []admin.Doorbell{admin.DoorbellArmed, admin.DoorbellPolling, admin.DoorbellUnattended} {
		add(doorbell, oneIf(status.Doorbell == mode), string(mode))
	}
	add(logIDs, float64(status.Log.LastID))
	if status.Log.OldestAt != nil {
		add(logOldest, float64(status.Log.OldestAt.UnixMilli())/1000)
	}
	return list
}

func oneIf(condition bool) float64 {
	if condition {
		return 1
	}
	return 0
}
