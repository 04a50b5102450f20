package worker

import (
	"fmt"
	"log/slog"
	"testing"
	"time"
)

// TestProbeNow has an operator ask for a probe after a long outage: both probes are made at once, and once for each time that it is asked.
func TestProbeNow(t *testing.T) {
	t.Parallel()
	r := &runner{log: slog.New(slog.DiscardHandler), backlog: newBacklog(), breaker: breaker{last: make([]trial, breakerLeast)}}
	asked := time.Now()
	r.heedProbe(asked) // it is closed: that says nothing about a later outage
	for n := range breakerLeast {
		if r.breaker.note(trial{key: fmt.Sprint(n), failed: true}, true) {
			r.breaker.trip()
		}
	}
	if !r.breaker.open() {
		t.Fatal("it is closed")
	}
	for range 20 {
		r.breaker.note(trial{key: "k", failed: true}, true)
		r.breaker.note(trial{key: "k", failed: true}, false)
		r.breaker.judge(time.Now())
	}
	rests := func(after time.Duration) bool {
		now := time.Now().Add(after)
		return now.Before(r.breaker.fresh.next) && now.Before(r.breaker.again.next)
	}
	if r.heedProbe(asked); !rests(probeRest / 2) {
		t.Error("it probes for what was asked before")
	}
	if r.heedProbe(asked.Add(1)); rests(0) || !r.mayTry() || !r.mayRead() {
		t.Error("it does not probe when it is asked to")
	}
	r.breaker.note(trial{key: "k", failed: true}, true)
	r.breaker.note(trial{key: "k", failed: true}, false)
	r.breaker.judge(time.Now())
	if rests(3 * probeSoon) {
		t.Error("it rests as long as before it was asked")
	}
	if r.heedProbe(asked.Add(1)); !rests(0) {
		t.Error("it probes twice")
	}
}
