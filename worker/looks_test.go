package worker

import (
	"testing"
	"time"
)

// TestLooksFitting has refills on a server that needs so long for each event: they come to take about refillTime, and stay within bounds.
func TestLooksFitting(t *testing.T) {
	t.Parallel()
	for each, want := range map[time.Duration]int{
		time.Nanosecond:        refillLooks,
		2 * time.Microsecond:   int(refillTime / (2 * time.Microsecond)),
		3500 * time.Nanosecond: int(refillTime / (3500 * time.Nanosecond)),
		time.Millisecond:       refillLeast,
	} {
		for _, first := range []int{refillLeast, refillLooks} {
			looks := first
			for range 10 {
				looks = looksFitting(looks, time.Duration(looks)*each)
			}
			if looks < want-1 || looks > want+1 {
				t.Errorf("%v an event, from %d: it looks at %d, want %d", each, first, looks, want)
			}
		}
	}
	if looks := looksFitting(1000, 0); looks != 2000 {
		t.Errorf("after a moment in which next to nothing was to look at, it looks at %d, want 2000", looks)
	}
}
