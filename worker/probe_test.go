package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
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

// TestGivesBackNoResult has the breaker open by the first of several deliveries that a turn has handled: earlier attempts at the others are given back, and what has
// become of them in this turn stands. Were both recorded, one of them would be lost.
func TestGivesBackNoResult(t *testing.T) {
	t.Parallel()
	r := &runner{log: slog.New(slog.DiscardHandler), backlog: newBacklog(), breaker: breaker{last: make([]trial, breakerLeast)}}
	r.sub.solo, r.sub.BreakerAfter, r.sub.Retry.MaxAttempts = true, breakerLeast, unlimitedAttempts
	r.sub.many = manyFunc(nil)
	failures := []*failure{failureOf(errors.New("no")), failureOf(DeadLetter(nil)), failureOf(errors.New("no"))}
	jobs := make([]job, len(failures))
	for i := range jobs {
		e := &engine.Event{}
		e.ID, e.Key = int64(i), fmt.Sprint(i)
		jobs[i].event, jobs[i].attempt, jobs[i].delivery, jobs[i].counted = e, 3, true, true
		jobs[i].failure, jobs[i].ended = failures[i], time.Now()
		r.backlog.add(lineOf(e), 1, time.Now(), "t")
	}
	for n := range breakerLeast - 1 {
		r.breaker.note(trial{key: fmt.Sprint(n + 1), id: int64(n + 1), number: 2, failed: true}, false)
	}
	r.recordAll(t.Context(), jobs)
	if !r.breaker.open() {
		t.Fatal("it is closed")
	}
	found := map[int64][]outbox.State{}
	for _, u := range r.owed.Failed {
		found[u.Event.ID] = append(found[u.Event.ID], u.State)
	}
	for id, want := range []outbox.State{outbox.Retrying, outbox.Dead, outbox.Retrying} {
		if got := found[int64(id)]; len(got) != 1 || got[0] != want {
			t.Errorf("event %d is recorded as %v, want %v once", id, got, want)
		}
	}
}
