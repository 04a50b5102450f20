package worker

import (
	"testing"
	"time"
)

// TestReloadRests has the backlog loaded anew as often as that leaves time for what is in it, however large.
func TestReloadRests(t *testing.T) {
	t.Parallel()
	const took = time.Hour // so that the test's own pace does not matter
	for _, c := range []struct {
		name        string
		ago         time.Duration
		took        time.Duration
		stale, busy bool
		want        bool
	}{
		{"nothing has changed", 0, 0, false, false, false},
		{"in case a notification was missed", reloadEvery, 0, false, true, true},
		{"a first change", 0, 0, true, true, true},
		{"another, and nothing is due", took, took, true, false, true},
		{"another beside what is due", time.Second, time.Second, true, true, false},
		{"another, after a rest", reloadRest * time.Second, time.Second, true, true, true},
		{"never later than without a change", reloadEvery, took, true, true, true},
	} {
		r := &runner{stale: c.stale, loadedAt: time.Now().Add(-c.ago), loadTook: c.took}
		if got := r.reloadIsDue(c.busy); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
