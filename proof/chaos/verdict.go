package main

import (
	"fmt"
	"time"
)

// A verdict is the last line of standard output.
type verdict struct {
	Verdict          string               `json:"verdict"`
	Failures         []string             `json:"failures"` // why it failed
	Seed             uint64               `json:"seed"`
	Minutes          float64              `json:"minutes"`
	Postgres         string               `json:"postgres"`
	Committed        int                  `json:"committed"`
	RolledBack       int                  `json:"rolled_back"`
	UnknownCommitted int                  `json:"unknown_committed"` // no answer to the commit, and in the log
	UnknownAbsent    int                  `json:"unknown_absent"`    // no answer to the commit, and not in the log
	Lost             int                  `json:"lost"`
	Phantom          int                  `json:"phantom"`
	Duplicates       int                  `json:"duplicates"`
	DuplicatesBound  int                  `json:"duplicates_bound"`
	BoundWhy         string               `json:"duplicates_bound_why"`
	OrderViolations  int                  `json:"order_violations"`
	Mismatches       int                  `json:"exactly_once_mismatches"`
	SilentStalls     int                  `json:"silent_stalls"`
	BurdenStalls     int                  `json:"burden_stalls"`
	LongestStallMS   int64                `json:"longest_stall_ms"`
	LongestStallIn   string               `json:"longest_stall_in"`    // which subscription
	LongestStallHit  string               `json:"longest_stall_after"` // which faults
	DrainedMS        int64                `json:"drained_ms"`
	DrainedLimitMS   int64                `json:"drained_limit_ms"`
	Faults           map[string]int       `json:"faults"`
	Subscriptions    map[string]*findings `json:"subscriptions"`
	Processes        int                  `json:"worker_processes"`
	Sessions         int                  `json:"worker_sessions"`
	SkewedClock      string               `json:"skewed_clock"` // of some of the workers
	problems         []problem
}

const boundWhy = "successes that their worker had not recorded when its session ended: only those may be handled again"

// circumstances are what the judge does not need, and the verdict tells.
type circumstances struct {
	seed       uint64
	lasted     time.Duration
	postgres   string
	drained    time.Duration // 0 when it never was
	drainLimit time.Duration
	processes  int
	skew       time.Duration
	failures   []string // of processes
}

// reach comes to the verdict.
func reach(e evidence, c circumstances) *verdict {
	j := newJudge(e)
	v := &verdict{
		Failures: append([]string{}, c.failures...), Seed: c.seed, Minutes: float64(c.lasted.Milliseconds()/100) / 600, Postgres: c.postgres,
		BoundWhy: boundWhy, DrainedMS: c.drained.Milliseconds(), DrainedLimitMS: c.drainLimit.Milliseconds(),
		Faults: map[string]int{}, Subscriptions: map[string]*findings{}, Processes: c.processes, Sessions: len(e.sessions),
		SkewedClock: c.skew.String(),
	}
	for i := range j.entries {
		switch in := j.log[int64(i+1)]; {
		case j.isCommitted(int64(i + 1)):
			v.Committed++
			if j.entries[i].outcome == unknown {
				v.UnknownCommitted++
			}
		case j.entries[i].outcome == unknown && !in:
			v.UnknownAbsent++
		default:
			v.RolledBack++
		}
	}
	for _, fault := range e.faults {
		v.Faults[fault.kind]++
	}
	missing, phantom := j.logged()
	for _, n := range missing {
		v.problems = append(v.problems, problem{-1, n, "was acknowledged and is not in the log"})
	}
	for _, n := range phantom {
		v.problems = append(v.problems, problem{-1, n, "was not committed and is in the log"})
	}
	v.Phantom = len(phantom)
	for s := range subscriptions {
		f := j.subscription(s)
		v.Subscriptions[subscriptions[s].name] = f
		v.Lost += f.Lost
		v.Phantom += f.Phantom
		v.Duplicates += f.Duplicates
		v.OrderViolations += f.OrderViolations
		v.Mismatches += f.Mismatches
		v.problems = append(v.problems, f.problems...)
		v.DuplicatesBound += f.DuplicatesBound
		v.SilentStalls += f.SilentStalls
		v.BurdenStalls += f.BurdenStalls
		if f.LongestStallMS > v.LongestStallMS {
			v.LongestStallMS, v.LongestStallIn, v.LongestStallHit = f.LongestStallMS, subscriptions[s].name, f.stallAfter
		}
		if f.Duplicates > f.DuplicatesBound {
			v.fail("%s: %d duplicates, and at most %d successes were not recorded", subscriptions[s].name, f.Duplicates, f.DuplicatesBound)
		}
		if f.UnexpectedDead > 0 && !subscriptions[s].flaky {
			v.fail("%s: %d dead letters, and its handler never fails for good", subscriptions[s].name, f.UnexpectedDead)
		}
	}
	for _, count := range []struct {
		n    int
		what string
	}{
		{len(missing), "acknowledged events are not in the log"},
		{v.Lost, "committed events are lost"},
		{v.Phantom, "events were delivered or logged, and not committed"},
		{v.OrderViolations, "events were handled before an earlier one of their key"},
		{v.SilentStalls, "events waited for longer than the lease and 5s for one silent connection"},
		{v.BurdenStalls, "events waited for longer than 4s for events of other keys"},
		{v.Mismatches, "effects of transactional handlers do not count exactly once"},
	} {
		if count.n > 0 {
			v.fail("%d %s", count.n, count.what)
		}
	}
	switch {
	case v.Committed == 0:
		v.fail("nothing was committed: this proves nothing")
	case c.drained == 0:
		v.fail("the lag did not come back to 0")
	case c.drained > c.drainLimit:
		v.fail("the lag was back to 0 after %v, later than %v", c.drained.Round(time.Millisecond), c.drainLimit)
	}
	if v.Verdict = "passed"; len(v.Failures) > 0 {
		v.Verdict = "failed"
	}
	return v
}

func (v *verdict) fail(format string, args ...any) {
	v.Failures = append(v.Failures, fmt.Sprintf(format, args...))
}
