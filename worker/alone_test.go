package worker

import (
	"testing"
	"time"
)

// TestWaitedHasItsShare has events one by one, after others of a window have had some time: what waited has as long.
func TestWaitedHasItsShare(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		had, took time.Duration // what came before, and what waited
		late      bool
	}{
		{0, 20 * ms, false},
		{0, 60 * ms, true},
		{400 * ms, 60 * ms, false},
		{400 * ms, 300 * ms, false},
		{400 * ms, 450 * ms, true},
		{3000 * ms, 800 * ms, false}, // although the window has had its time
		{3000 * ms, 1100 * ms, true},
	} {
		now := time.Now()
		r := &runner{begun: now.Add(-c.had - c.took), waitedFrom: now.Add(-c.took)}
		if late := r.tooLateAlone(&job{delivery: true, attempt: 1}); late != c.late {
			t.Errorf("after %v of others and %v of its own: too late is %t", c.had, c.took, late)
		}
	}
}
