package worker

import (
	"testing"
	"time"
)

// TestWaitedHasItsShare has what waited come after others of its window that have had some time: it has as long, within the time of the window.
func TestWaitedHasItsShare(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		had, took time.Duration // what came before, and what waited
		others    bool          // something new waits
		late      bool
	}{
		{0, 20 * ms, false, false},
		{0, 60 * ms, false, true},
		{0, 3 * ms, true, false},
		{0, 20 * ms, true, true},
		{400 * ms, 60 * ms, true, false},
		{400 * ms, 300 * ms, true, false},
		{400 * ms, 450 * ms, true, true},
		{1500 * ms, 400 * ms, true, false},
		{1500 * ms, 600 * ms, true, true}, // the window has had its time
		{3000 * ms, 3 * ms, true, false},  // as this one, and something goes on nevertheless
		{3000 * ms, 20 * ms, true, true},
	} {
		now := time.Now()
		r := &runner{begun: now.Add(-c.had - c.took), waitedFrom: now.Add(-c.took), wake: newWakeups()}
		if c.others {
			r.ahead = &ahead{}
		}
		if late := r.tooLate(&job{delivery: true, attempt: 1}); late != c.late {
			t.Errorf("after %v of others and %v of its own, while others wait (%t): too late is %t", c.had, c.took, c.others, late)
		}
	}
}
