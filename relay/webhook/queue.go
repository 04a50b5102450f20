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
	paused  time.Time // until when the endpoint wants to be left alone
	gone    error     // why it takes nothing any more
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

// refuses returns the answer to a message that cannot be sent now, and nil otherwise.
func (q *queue) refuses(now time.Time) error {
	switch {
	case q.gone != nil:
		return worker.DeadLetter(q.gone)
	case now.Before(q.paused):
		return q.target.later(spread(q.paused.Sub(now)), "wants to be left alone")
	case q.breaker.open() && now.Before(q.breaker.next):
		return q.target.later(q.breaker.back(now, false), "is down")
	}
	return nil
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
