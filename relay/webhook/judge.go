package webhook

import (
	"cmp"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/worker"
)

// judge tells the endpoint's queue of a result, and returns what is to be logged, and the answer.
func (s *Sink) judge(q *queue, c *call, r result) (log func(), answer error) {
	log = func() {}
	name, cause, now := shown(c.target.name), r.err, time.Now()
	if cause != nil {
		r.err = fmt.Errorf("endpoint %s: %w", name, cause)
	}
	if q.target != c.target { // it has begun anew meanwhile, of which this says nothing
		q = &queue{target: c.target}
	}
	switch r.kind {
	case takes, refuses:
		if q.breaker.succeed(c.probe, c.target.concurrency(), now) {
			q.returns = returns{} // from here on, what is put off has another reason
			log = func() { s.log.Info("webhook endpoint takes messages again", "endpoint", name) }
		}
		if r.kind == refuses {
			answer = worker.DeadLetter(r.err)
		}
		return log, answer
	case gone:
		q.gone = fmt.Errorf("%w: the endpoint is disabled until it is enabled again", r.err)
		log = func() {
			s.log.Warn("webhook endpoint is gone: its messages become dead letters", "endpoint", name, "error", cause)
		}
		return log, worker.DeadLetter(q.gone)
	case interrupted:
		return log, r.err
	}
	if s.single {
		return log, alone(r)
	}
	if r.pause > 0 {
		if until := now.Add(r.pause); until.After(q.paused) {
			q.paused = until
		}
		return log, fmt.Errorf("%w: %w", r.err, worker.Snooze(q.rest(now, r.pause)))
	}
	fail := q.breaker.trip
	if r.kind == fails {
		fail = func(probe bool, now time.Time) bool { return q.breaker.fail(c.id, probe, now) }
	}
	if fail(c.probe, now) {
		log = func() { s.log.Warn("webhook endpoint is down: its messages wait", "endpoint", name, "error", cause) }
	}
	if !q.breaker.open() {
		return log, r.err
	}
	back := q.breaker.probes(now) // the one that was the probe comes for the next one
	if !c.probe {
		back = q.away(now)
	}
	return log, fmt.Errorf("%w: %w", r.err, worker.Snooze(back))
}

// alone is the answer where there is one endpoint: its troubles are those of the subscription, whose breaker and pause are there for them.
func alone(r result) error {
	switch r.kind {
	case busy:
		return worker.PauseFor(cmp.Or(r.pause, time.Second), r.err)
	case unreachable:
		return worker.Outage(r.err)
	default:
		return r.err
	}
}
