package metrics

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// families are the metrics of all subscriptions.
type families struct {
	delivered, failed, dead, skipped *prometheus.CounterVec // by subscription and topic

	parked                                  *prometheus.CounterVec   // by subscription
	took, latency, windowEvents, windowTook *prometheus.HistogramVec // by subscription
}

func newFamilies() *families {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets ...float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"subscription"})
	}
	return &families{
		delivered: counter("signalbox_delivered_total",
			"Events that this worker's handlers handled. One that is handled again after a fault counts again.", "subscription", "topic"),
		failed: counter("signalbox_failed_total",
			"Attempts that ended with an error, a panic or a timeout, or with the death of their worker; including those that left a dead letter.",
			"subscription", "topic", "kind"),
		dead: counter("signalbox_dead_total",
			"Events that became dead letters in this worker.", "subscription", "topic"),
		skipped: counter("signalbox_skipped_total",
			"Events that this worker's handlers skipped.", "subscription", "topic"),
		parked: counter("signalbox_parked_total",
			"Events that took longer than ParkAfter, so that their window went on without them.", "subscription"),
		took: histogram("signalbox_attempt_duration_seconds",
			"Time in the handler, one observation for each attempt at an event; of events that are handled together, the time for all of them.",
			.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300),
		latency: histogram("signalbox_delivery_latency_seconds",
			"From when an event was published until its handler succeeded, retries included. It compares two clocks: published_at is when the "+
				"publishing statement began, before its commit, by the database's; the end is by this worker's.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200),
		windowEvents: histogram("signalbox_window_events",
			"Events of a window that was handled.",
			1, 4, 16, 64, 256, 1024, 4096, 16384),
		windowTook: histogram("signalbox_window_duration_seconds",
			"Time until the last handler of a window returned or was parked.",
			.001, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30),
	}
}

func (f *families) collectors() collectors {
	return collectors{f.delivered, f.failed, f.dead, f.skipped, f.parked, f.took, f.latency, f.windowEvents, f.windowTook}
}

// A subscription has the metrics of one: looked up once, so that an event costs a few atomic additions.
type subscription struct {
	parked                                  prometheus.Counter
	took, latency, windowEvents, windowTook prometheus.Observer
	topics                                  *named[outcomes]
}

// outcomes are the counters of one topic in one subscription.
type outcomes struct {
	delivered, dead, skipped prometheus.Counter
	failed                   *prometheus.CounterVec // by kind
}

func (f *families) subscription(name string, maxTopics int) *subscription {
	return &subscription{
		parked: f.parked.WithLabelValues(name),
		took:   f.took.WithLabelValues(name), latency: f.latency.WithLabelValues(name),
		windowEvents: f.windowEvents.WithLabelValues(name), windowTook: f.windowTook.WithLabelValues(name),
		topics: newNamed(maxTopics, func(topic string) outcomes {
			failed := f.failed.MustCurryWith(prometheus.Labels{"subscription": name, "topic": topic})
			failed.WithLabelValues(plainFailure) // so that the first one is an increase
			return outcomes{
				delivered: f.delivered.WithLabelValues(name, topic), failed: failed,
				dead: f.dead.WithLabelValues(name, topic), skipped: f.skipped.WithLabelValues(name, topic),
			}
		}),
	}
}

func (m *Metrics) attempt(_ context.Context, a worker.Attempt) {
	s := m.subscriptions.get(a.Subscription)
	o := s.topics.get(a.Event.Topic)
	if !a.EndedAt.IsZero() {
		s.took.Observe(a.Duration.Seconds())
	}
	switch a.State {
	case "":
		o.delivered.Inc()
		s.latency.Observe(max(0, a.EndedAt.Sub(a.Event.PublishedAt).Seconds()))
	case outbox.Skipped:
		o.skipped.Inc()
	case outbox.Dead:
		o.failed.WithLabelValues(kindOf(a.Err)).Inc()
		o.dead.Inc()
	default:
		o.failed.WithLabelValues(kindOf(a.Err)).Inc()
	}
}

// plainFailure is the kind of an error that asks for nothing.
const plainFailure = "error"

// kindOf tells failures apart: timeouts, and by what the handler has asked for.
func kindOf(err error) string {
	var named interface{ ErrorType() string }
	if errors.As(err, &named) {
		return named.ErrorType()
	}
	return plainFailure
}

func (m *Metrics) window(_ context.Context, w worker.Window) {
	s := m.subscriptions.get(w.Subscription)
	s.windowTook.Observe(w.Duration.Seconds())
	if w.Events > 0 { // else there were deliveries only
		s.windowEvents.Observe(float64(w.Events))
	}
}

func (m *Metrics) parked(_ context.Context, p worker.ParkedEvent) {
	m.subscriptions.get(p.Subscription).parked.Inc()
}
