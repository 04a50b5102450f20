package worker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/time/rate"
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

// TestSleepsOverNothing has the time of what waits come between the look whether it has come, and the sleep: the runner does not sleep until somebody
// wakes it.
func TestSleepsOverNothing(t *testing.T) {
	t.Parallel()
	const soon = 10 * time.Millisecond
	for _, c := range []struct {
		name string
		read bool
		set  func(r *runner, after time.Duration)
	}{
		{"a token", true, func(r *runner, after time.Duration) {
			r.pacer = pacer{Limiter: rate.NewLimiter(rate.Every(soon), 1), rate: 1}
			r.pacer.ReserveN(time.Now().Add(after-soon), 1)
		}},
		{"the end of a pause", true, func(r *runner, after time.Duration) { r.pausedUntil.Store(time.Now().Add(after).UnixNano()) }},
		{"a probe of what is new", true, func(r *runner, after time.Duration) {
			r.breaker.trip()
			r.breaker.again.next = time.Now().Add(time.Hour)
			r.breaker.fresh.next = time.Now().Add(after)
		}},
		{"a probe of what waits", false, func(r *runner, after time.Duration) {
			r.breaker.trip()
			r.breaker.fresh.next = time.Now().Add(time.Hour)
			r.breaker.again.next = time.Now().Add(after)
			r.backlog.add(lineID{key: "k"}, 1, time.Now(), "t")
		}},
	} {
		for _, after := range []time.Duration{-time.Nanosecond, soon} {
			r := &runner{wake: newWakeups(), backlog: newBacklog()}
			r.sub.Concurrency = 1
			c.set(r, after)
			drain, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			r.sleep(drain, c.read)
			if drain.Err() != nil {
				t.Errorf("%s, %v later: it sleeps", c.name, after)
			}
			cancel()
		}
	}
}

// TestProbesAreClaimed has a topic wait for its breaker while many lines of others are due: its probe is among the first, and so among those that a claim of few
// has room for.
func TestProbesAreClaimed(t *testing.T) {
	t.Parallel()
	away := &topicBreaker{name: "away"}
	away.trip()
	away.probeNow(time.Now())
	r := &runner{backlog: newBacklog("away")}
	r.sub.Concurrency = 1
	r.topics.opened = map[string]*topicBreaker{"away": away}
	r.backlog.add(lineID{key: "waits"}, 1, time.Now(), "away")
	for i := range 2 * dueLines {
		r.backlog.add(lineID{key: fmt.Sprint(i)}, 1, time.Now(), "other")
	}
	if due := append(r.dueProbes(), r.dueLines(true)...); len(due) != 1+dueLines || due[0].Key != "waits" {
		t.Errorf("%d lines are due, the first is %+v", len(due), due[0])
	}
}
