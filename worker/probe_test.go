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
	fails := func(at time.Time) {
		for range 20 {
			r.breaker.note(trial{key: "k", failed: true}, true)
			r.breaker.note(trial{key: "k", failed: true}, false)
			r.breaker.judge(at, r.probeBrief())
		}
	}
	rests := func(after time.Duration) bool {
		now := time.Now().Add(after)
		return now.Before(r.breaker.fresh.next) && now.Before(r.breaker.again.next)
	}
	if fails(r.breaker.since.Add(probeBrief - 1)); rests(probeBrief + probeSoon) {
		t.Error("it rests for long, having been open for a moment")
	}
	r.breaker.since = r.breaker.since.Add(-probeBrief)
	fails(time.Now())
	if r.heedProbe(asked); !rests(probeRest / 2) {
		t.Error("it probes for what was asked before")
	}
	if r.heedProbe(asked.Add(1)); rests(0) || !r.mayTry() || !r.mayRead() {
		t.Error("it does not probe when it is asked to")
	}
	r.breaker.note(trial{key: "k", failed: true}, true)
	r.breaker.note(trial{key: "k", failed: true}, false)
	r.breaker.judge(time.Now(), r.probeBrief())
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
	r := &runner{log: slog.New(slog.DiscardHandler), backlog: newBacklog(), lanes: []int16{0}, breaker: breaker{last: make([]trial, breakerLeast)}}
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

// TestGivesBackOnce gives back several attempts at one event, which are one row, and none of a lane that is another worker's by now.
func TestGivesBackOnce(t *testing.T) {
	t.Parallel()
	r := &runner{lanes: []int16{0}}
	for _, tried := range []trial{{id: 1, number: 3}, {id: 1, number: 2}, {id: 2, number: 1, lane: 7}} {
		r.giveBack(tried)
	}
	if u := r.owed.Failed; len(u) != 1 || u[0].Event.ID != 1 || u[0].Attempt != 1 {
		t.Errorf("given back is %+v", u)
	}
}

// awayRunner serves lane 0, and the breaker is open for topic "bad".
func awayRunner() *runner {
	away := &topicBreaker{name: "bad"}
	away.trip()
	r := &runner{log: slog.New(slog.DiscardHandler), backlog: newBacklog("bad"), lanes: []int16{0}}
	r.sub.Concurrency, r.sub.Retry.MaxAttempts = 1, unlimitedAttempts
	r.topics.opened = map[string]*topicBreaker{"bad": away}
	return r
}

// eventOf returns an event of key k.
func eventOf(id int64, topic string) engine.Event {
	e := engine.Event{}
	e.ID, e.Key, e.Topic = id, "k", topic
	return e
}

// TestHeadPutOffLater has an event of a window wait for its topic, and then, as its window had no time for it, an earlier one of its key: the line begins with that, and does
// not wait for the topic.
func TestHeadPutOffLater(t *testing.T) {
	t.Parallel()
	r := awayRunner()
	jobs := r.jobs(nil, &engine.Window{Events: []engine.Event{eventOf(1, "good"), eventOf(2, "bad")}})
	if len(jobs) != 1 {
		t.Fatalf("%d jobs", len(jobs))
	}
	jobs[0].behind = true
	r.recordAll(t.Context(), jobs)
	if due := r.dueLines(false); len(due) != 1 || due[0].Key != "k" {
		t.Errorf("%+v is due", due)
	}
}

// TestTopicBehindAnother claims an event of a topic that is away behind one of another topic: it is not tried beside that.
func TestTopicBehindAnother(t *testing.T) {
	t.Parallel()
	r := awayRunner()
	jobs := r.deliveryJobs([]engine.Delivery{{Event: eventOf(1, "good")}, {Event: eventOf(2, "bad")}, {Event: eventOf(3, "good")}})
	if len(jobs) != 1 || jobs[0].event.ID != 1 {
		t.Errorf("%d jobs", len(jobs))
	}
	jobs = r.deliveryJobs([]engine.Delivery{{Event: eventOf(2, "bad")}, {Event: eventOf(3, "good")}})
	if len(jobs) != 2 || !jobs[0].probe || jobs[1].probe {
		t.Errorf("%d jobs, and the first is no probe", len(jobs))
	}
}
