package measure

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies collects durations from a microsecond to ten minutes, with three significant digits. Safe for concurrent use.
type Latencies struct {
	mu        sync.Mutex
	histogram *hdrhistogram.Histogram
}

// NewLatencies returns an empty collection.
func NewLatencies() *Latencies {
	return &Latencies{histogram: hdrhistogram.New(1, (10 * time.Minute).Microseconds(), 3)}
}

// Add adds one. What is out of range counts as the end of it.
func (l *Latencies) Add(d time.Duration) {
	us := min(max(d.Microseconds(), 1), (10 * time.Minute).Microseconds())
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.histogram.RecordValue(us) // never out of range
}

// Milliseconds returns a percentile.
func (l *Latencies) Milliseconds(percentile float64) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return float64(l.histogram.ValueAtPercentile(percentile)) / 1000
}

// Count returns how many there are.
func (l *Latencies) Count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.histogram.TotalCount()
}
