package metrics

import (
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// tallies are the histograms of durations of one metric, by subscription. Prometheus' own take several atomic operations for
// each observation; here, whoever observes for an event holds one lock for all that there is to observe.
type tallies struct {
	desc    *prometheus.Desc
	seconds []float64 // upper bounds of the buckets
	bounds  []time.Duration

	mu   sync.Mutex // held to add, and to collect
	list []*tally
}

func newTallies(name, help string, seconds ...float64) *tallies {
	t := &tallies{desc: prometheus.NewDesc(name, help, []string{"subscription"}, nil), seconds: seconds}
	for _, s := range seconds {
		t.bounds = append(t.bounds, time.Duration(math.Round(s*float64(time.Second))))
	}
	return t
}

// add returns a tally of a subscription, which mu protects.
func (t *tallies) add(subscription string, mu *sync.Mutex) *tally {
	y := &tally{
		subscription: subscription, mu: mu, created: time.Now(),
		bounds: t.bounds, counts: make([]uint64, len(t.bounds)+1),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, y)
	return y
}

// Describe sends the only description, as a prometheus.Collector does.
func (t *tallies) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- t.desc }

// Collect sends a histogram for each subscription, as a prometheus.Collector does.
func (t *tallies) Collect(metrics chan<- prometheus.Metric) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, y := range t.list {
		count, sum, upTo := y.read(t.seconds)
		metrics <- prometheus.MustNewConstHistogramWithCreatedTimestamp(t.desc, count, sum, upTo, y.created, y.subscription)
	}
}

// A tally counts durations by bucket.
type tally struct {
	subscription string
	created      time.Time
	bounds       []time.Duration // of the buckets, each included

	mu          *sync.Mutex // held by whoever observes
	counts      []uint64    // by bucket; the last one is for what is beyond all bounds
	nanoseconds float64     // the sum
	last        int         // the bucket of the last observation: the next one is likely to have the same
}

// observe adds a duration. The caller holds the lock.
func (y *tally) observe(d time.Duration) {
	i := y.last
	if i == len(y.bounds) || d > y.bounds[i] || i > 0 && d <= y.bounds[i-1] {
		for i = 0; i < len(y.bounds) && d > y.bounds[i]; {
			i++
		}
		y.last = i
	}
	y.counts[i]++
	y.nanoseconds += float64(d)
}

// read returns how many durations there were, their sum in seconds, and how many up to each bound, also in seconds.
func (y *tally) read(seconds []float64) (count uint64, sum float64, upTo map[float64]uint64) {
	y.mu.Lock()
	defer y.mu.Unlock()
	upTo = make(map[float64]uint64, len(seconds))
	for i, bound := range seconds {
		count += y.counts[i]
		upTo[bound] = count
	}
	return count + y.counts[len(seconds)], y.nanoseconds / float64(time.Second), upTo
}
