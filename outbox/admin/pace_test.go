package admin

import (
	"testing"
	"time"
)

// Without a rate, bulk work leaves half of the time to others; with one, it keeps to it.
func TestPace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate               int
		total              int64
		since, chunk, want time.Duration
	}{
		{0, 5000, 3 * time.Second, 200 * time.Millisecond, 200 * time.Millisecond},
		{1000, 1500, time.Second, 50 * time.Millisecond, 500 * time.Millisecond},
		{1_000_000, 1500, time.Second, 50 * time.Millisecond, 0}, // it is late already
	} {
		begun := time.Now()
		p := pace{rate: c.rate, begun: begun}
		if got := p.pause(begun.Add(c.since), c.total, c.chunk); got != c.want {
			t.Errorf("%d a second: after %d in %v it pauses for %v, want %v", c.rate, c.total, c.since, got, c.want)
		}
	}
	for rate, want := range map[int]int{0: 5000, 1: 1, 100: 20, 1_000_000: 5000} {
		if got := (pace{rate: rate}).limit(); got != want {
			t.Errorf("at %d a second, a chunk has %d, want %d", rate, got, want)
		}
	}
}
