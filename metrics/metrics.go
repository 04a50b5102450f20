package metrics

import (
	"cmp"
	"context"
	"log/slog"
	"math"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-go/signalbox/internal/guard"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// Config holds the options of a Metrics. Its zero value works.
type Config struct {
	// Pool is a pool of connections to the outbox's database. Metrics reads the outbox's state over it, and exports its statistics.
	// Defaults to nil: neither is exported.
	Pool *pgxpool.Pool

	// Outbox is the one that the metrics are about: all of them have its name as the label outbox. Give each outbox of a process a
	// Metrics of its own; they may share a registry. Defaults to the default outbox.
	Outbox outbox.Outbox

	// MaxTopics is how many topics have series of their own: of each subscription, and of published events. All others are counted
	// together, as topic "other". Defaults to 100.
	MaxTopics int

	// Logger receives a line when reading the outbox's state begins to fail, and when it succeeds again. Defaults to slog.Default().
	Logger *slog.Logger
}

// A Metrics is a prometheus.Collector of all metrics of this package. Register it once per process, in any registry. It is safe for
// concurrent use.
type Metrics struct {
	published     *named[prometheus.Counter]
	subscriptions *named[*subscription]
	wakeups       prometheus.Counter
	evictions     prometheus.Counter

	all prometheus.Collector
}

var _ prometheus.Collector = (*Metrics)(nil)

// New returns a Metrics whose counters are zero. It does not query the database before the first scrape.
func New(cfg Config) *Metrics {
	cfg.Logger = guard.Logger(cmp.Or(cfg.Logger, slog.Default()))
	cfg.MaxTopics = cmp.Or(cfg.MaxTopics, 100)
	m := &Metrics{
		wakeups: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signalbox_wakeups_total",
			Help: "Times that the doorbell woke this worker.",
		}),
		evictions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signalbox_evictions_total",
			Help: "Dead workers that this worker evicted, so that others take over their lanes.",
		}),
	}
	published := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signalbox_published_total",
		Help: "Events that this process published and knows to be committed.",
	}, []string{"topic"})
	m.published = newNamed(cfg.MaxTopics, func(topic string) prometheus.Counter { return published.WithLabelValues(topic) })
	f := newFamilies()
	m.subscriptions = newNamed(math.MaxInt, func(name string) *subscription { return f.subscription(name, cfg.MaxTopics) })

	all := append(f.collectors(), published, m.wakeups, m.evictions, faults("hook", guard.Hook), faults("logger", guard.LogHandler))
	if cfg.Pool != nil {
		all = append(all, poolStats{cfg.Pool}, &outboxState{pool: cfg.Pool, outbox: cfg.Outbox, log: cfg.Logger})
	}
	m.all = prometheus.WrapCollectorWith(prometheus.Labels{"outbox": cfg.Outbox.String()}, all)
	return m
}

// faults tells how often code of the application, called at a place where that costs nothing but the call, panicked.
func faults(name string, place guard.Place) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name:        "signalbox_application_faults_total",
		Help:        "Panics of the application's hooks and Logger in this process, and goroutines that they ended.",
		ConstLabels: prometheus.Labels{"place": name},
	}, func() float64 { return float64(guard.Faults(place)) })
}

// Published adds to the count of published events of a topic. Call it after the commit: before it, the events may be rolled back.
func (m *Metrics) Published(topic string, events int) { m.published.get(topic).Add(float64(events)) }

// Hooks returns hooks that count what a worker does, for worker.Config.Hooks. Several workers of a process may share them.
func (m *Metrics) Hooks() worker.Hooks {
	return worker.Hooks{
		WindowHandled: m.window,
		AttemptEnded:  m.attempt,
		EventParked:   m.parked,
		WokenUp:       func(context.Context) { m.wakeups.Inc() },
		WorkerEvicted: func(context.Context, worker.Eviction) { m.evictions.Inc() },
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(descriptions chan<- *prometheus.Desc) {
	m.all.Describe(descriptions)
}

// Collect implements prometheus.Collector. It queries the outbox's state at most once in 5 seconds and waits up to 3 seconds for the
// result; if the query fails, the metrics of that state are left out.
func (m *Metrics) Collect(metrics chan<- prometheus.Metric) {
	m.all.Collect(metrics)
}

// collectors are several as one.
type collectors []prometheus.Collector

func (cs collectors) Describe(descriptions chan<- *prometheus.Desc) {
	for _, c := range cs {
		c.Describe(descriptions)
	}
}

func (cs collectors) Collect(metrics chan<- prometheus.Metric) {
	for _, c := range cs {
		c.Collect(metrics)
	}
}
