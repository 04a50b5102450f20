package webhook

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/worker"
)

// A queue is what the sink knows of an endpoint: what runs, what waits, and whether anything may begin.
type queue struct {
	target  *target
	stale   bool // the endpoint is to begin anew
	running int
	busy    map[string]bool // the keys of what runs; those without one are of one line
	waiting []*call
	listed  bool // in Sink.ready

	breaker breaker
	paused  time.Time     // until when the endpoint wants to be left alone
	gone    error         // why it takes nothing any more
	took    time.Duration // what requests take lately
	moved   time.Time     // when one has ended, or the first of those that run began
	returns returns       // of what was put off
}

// A call is a message on its way.
type call struct {
	id, key string
	target  *target
	probe   bool
	begin   func()
	answer  func(error)
	leave   func() // ends what watches it while it waits
}

// refuses reports whether nothing can be sent now.
func (q *queue) refuses(now time.Time) bool {
	return q.gone != nil || now.Before(q.paused) || q.breaker.open() && now.Before(q.breaker.next)
}

// refusal is the answer to a message while nothing can be sent.
func (q *queue) refusal(now time.Time) error {
	switch {
	case q.gone != nil:
		return worker.DeadLetter(q.gone)
	case now.Before(q.paused):
		return q.target.later(q.rest(now, q.paused.Sub(now)), "wants to be left alone")
	default:
		return q.target.later(q.away(now), "is down")
	}
}

// rest is how long a message stays away from an endpoint that wants to be left alone for d.
func (q *queue) rest(now time.Time, d time.Duration) time.Duration {
	return q.returns.after(now, d, restGap, d+returnMost)
}

// away is how long a message stays away from an endpoint that is down.
func (q *queue) away(now time.Time) time.Duration {
	least, most := q.breaker.back(now)
	return q.returns.after(now, least, downGap, most)
}

// full is the answer to a message that the endpoint has no room for. As many come back as twice what it takes.
func (q *queue) full(now time.Time) error {
	if q.breaker.open() {
		return q.target.later(q.away(now), "is down")
	}
	gap := max(time.Millisecond, q.takes(now)/time.Duration(2*q.target.concurrency()))
	return q.target.later(q.returns.after(now, patience, gap, returnMost), "has much to do")
}

// takes is how long a request takes, also if none has ended yet.
func (q *queue) takes(now time.Time) time.Duration {
	if q.running == 0 {
		return q.took
	}
	return max(q.took, now.Sub(q.moved))
}

// waits is how many messages may wait in the sink: no more than those that begin soon, as far as that is known.
func (q *queue) waits(now time.Time) int {
	return min(waitingOfOne, 1+int(patience*time.Duration(q.target.concurrency())/max(q.takes(now), time.Millisecond)))
}

// begin notes that a call begins.
func (q *queue) begin(c *call, now time.Time) {
	if q.running == 0 {
		q.moved = now
	}
	q.running++
	q.busy[c.key] = true
	c.probe = q.breaker.open()
}

// end notes that a call has ended, and how long it took; 0 if that says nothing.
func (q *queue) end(c *call, took time.Duration, now time.Time) {
	q.running--
	delete(q.busy, c.key)
	q.moved = now
	switch {
	case took == 0:
	case q.took == 0:
		q.took = took
	default:
		q.took = (3*q.took + took) / 4
	}
}

// renew begins anew with an endpoint.
func (q *queue) renew(t *target) {
	q.target, q.stale, q.breaker, q.paused, q.gone, q.took, q.returns = t, false, breaker{}, time.Time{}, nil, 0, returns{}
}

// later returns an error that has a message come back without an attempt.
func (t *target) later(d time.Duration, why string) error {
	return fmt.Errorf("endpoint %s %s: %w", shown(t.name), why, worker.Snooze(d))
}

// limit is how many requests may run, if its share of the sink is that large.
func (q *queue) limit(share int) int {
	limit := min(q.target.concurrency(), share)
	if q.breaker.open() {
		limit = min(limit, q.breaker.room)
	}
	return limit
}

// take returns what may begin next, and nil if nothing may.
func (q *queue) take(share int) *call {
	if q.running >= q.limit(share) {
		return nil
	}
	i := slices.IndexFunc(q.waiting, func(c *call) bool { return !q.busy[c.key] })
	if i < 0 {
		return nil
	}
	c := q.waiting[i]
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return c
}

// idle reports whether nothing is to be remembered.
func (q *queue) idle(now time.Time) bool {
	return q.running == 0 && len(q.waiting) == 0 && q.breaker.clean() && q.gone == nil && !now.Before(q.paused)
}
