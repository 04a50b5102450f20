package demo

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// A Report says what came of a demo. Its JSON is what "outbox demo --json" prints.
type Report struct {
	// Published counts events that were committed through the demo's producer, whoever sent them.
	Published int `json:"published"`

	// Subscriptions has what each of them got.
	Subscriptions map[string]Tally `json:"subscriptions"`

	// Latency is from just before a request was sent to the call of the handler, over the demo's own requests and both
	// subscriptions.
	Latency Quantiles `json:"latency_ms"`

	own     int   // of those published, the demo's
	failed  int   // requests of the demo that were not told that their signal is stored …
	rescued int   // … of which so many were stored all the same
	fault   error // what the last of them were told instead
	passed  int   // events of other publishers that the subscriptions saw
}

// A Tally is what a subscription got of the published events.
type Tally struct {
	Delivered  int `json:"delivered"`  // distinct events
	Duplicates int `json:"duplicates"` // calls of a handler beyond the first
	Missing    int `json:"missing"`

	latency Quantiles
	workers map[string]int // first deliveries, by worker
	lost    []int64        // the first few that are missing
}

// Quantiles are in milliseconds; 0 where nothing was measured.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// ErrIncomplete says that a published event did not reach every subscription in time, or that none could be published.
var ErrIncomplete = errors.New("the demo did not succeed")

// report closes the books.
func (l *ledger) report() *Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &Report{Subscriptions: map[string]Tally{}, own: l.answered, failed: l.failed, rescued: l.rescued, fault: l.fault}
	for _, request := range l.requests {
		if request.failed && request.owed <= len(l.labels) { // it has arrived somewhere
			r.own++
			r.rescued++
		}
	}
	for _, e := range l.events {
		if e.promised {
			r.Published++
		} else {
			r.passed++
		}
	}
	var all []time.Duration
	for i, label := range l.labels {
		t, latencies := l.tally(i)
		r.Subscriptions[label] = t
		all = append(all, latencies...)
	}
	r.Latency = quantiles(all)
	return r
}

func (l *ledger) tally(subscription int) (Tally, []time.Duration) {
	t := Tally{workers: map[string]int{}}
	var latencies []time.Duration
	for _, id := range slices.Sorted(maps.Keys(l.events)) {
		e := l.events[id]
		a := e.arrivals[subscription]
		switch {
		case !e.promised:
			continue
		case a.times == 0:
			if t.Missing++; len(t.lost) < 5 {
				t.lost = append(t.lost, id)
			}
			continue
		}
		t.Delivered++
		t.Duplicates += a.times - 1
		t.workers[a.worker]++
		if e.own {
			latencies = append(latencies, a.latency)
		}
	}
	t.latency = quantiles(latencies)
	// Other people's requests were sent nobody knows when: they have none.
	return t, latencies
}

// quantiles sorts what it is given.
func quantiles(latencies []time.Duration) Quantiles {
	if len(latencies) == 0 {
		return Quantiles{}
	}
	slices.Sort(latencies)
	at := func(share float64) float64 { // one that was measured, not one in between
		nearest := int(math.Ceil(share*float64(len(latencies)))) - 1
		return float64(latencies[nearest].Microseconds()) / 1000
	}
	return Quantiles{P50: at(0.50), P99: at(0.99)}
}

// verdict returns nil if every published event reached every subscription.
func (r *Report) verdict() error {
	if r.Published == 0 && r.failed > 0 {
		return fmt.Errorf("%w: none of %d requests was stored, the last because: %w", ErrIncomplete, r.failed, r.fault)
	}
	var faults []string
	for _, label := range slices.Sorted(maps.Keys(r.Subscriptions)) {
		if t := r.Subscriptions[label]; t.Missing > 0 {
			ids := strings.Trim(fmt.Sprint(t.lost), "[]")
			if len(t.lost) < t.Missing {
				ids += " …"
			}
			faults = append(faults, fmt.Sprintf("%s misses %d (ids %s)", label, t.Missing, ids))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w: of %d published events %s", ErrIncomplete, r.Published, strings.Join(faults, ", "))
}
