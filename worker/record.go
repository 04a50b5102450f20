package worker

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

func (r *runner) recordAll(ctx context.Context, jobs []job) {
	r.noteAnswered(jobs)
	for i := range jobs {
		r.record(ctx, &jobs[i])
	}
	r.answered = nil
}

// noteAnswered notes which keys have events in a window that were handled, or are in flight, behind one that failed, as some of a pipelined key may.
func (r *runner) noteAnswered(jobs []job) {
	if !r.sub.pipelined {
		return
	}
	kept := func(j *job) bool { return j.state.Load() == parked || j.done() }
	for i := range jobs {
		switch j := &jobs[i]; {
		case j.event.Key == "":
		case !kept(j) && r.answered == nil:
			r.answered = map[string]int64{}
		case r.answered != nil && kept(j):
			r.answered[j.event.Key] = j.event.ID
		}
	}
}

// record notes what became of a job that has been handled, or parked.
func (r *runner) record(ctx context.Context, j *job) {
	if j.state.Load() == parked {
		r.recordParked(ctx, j)
		return
	}
	u := r.verdict(ctx, j)
	if u == nil && j.flight != nil {
		r.tookUsually(j.took)
	}
	idle := u != nil && u.Failure == nil && !j.snoozed() // it was not tried, or told to stop
	if j.delivery && !j.counted && idle {
		return // it did not get to run, and its row does not say that it does
	}
	if r.sub.many == nil || r.sub.solo { // a batch is one attempt: see call
		r.noteTrial(ctx, j, !j.delivery)
	}
	if u != nil && u.Failure != nil && u.State == outbox.Retrying && !u.ForOthers && (r.breaker.open() || r.topics.opened[j.event.Topic] != nil) {
		u.Attempt, u.Delay = j.attempt-1, min(u.Delay, probeRest)
	}
	if r.tellsAttempts() && (u == nil || u.Failure != nil) {
		a := Attempt{Subscription: r.sub.Name, Event: &j.event.Event, Number: j.attempt, Duration: j.took, EndedAt: j.ended}
		if u != nil {
			a.State, a.Err = u.State, j.failure.cause()
		}
		r.attempts = append(r.attempts, a)
	}
	if u == nil && !j.delivery {
		r.owed.Handled++
		return // as nearly all: so far, no clock was read
	}
	id, now := lineOf(j.event), time.Now()
	r.owesRow(now)
	blocks := r.blocks(u)
	if !j.delivery && idle {
		r.putOff(j.event)
		return
	}
	switch {
	case u == nil:
		r.owed.Delivered = append(r.owed.Delivered, j.event.ID)
	case j.delivery:
		kept := *u
		if j.noted {
			kept.Failure = nil
		}
		if r.breaker.open() || len(r.topics.opened) > 0 { // an earlier attempt may just have been given back: what became of this one stands
			r.owed.Failed = slices.DeleteFunc(r.owed.Failed, func(given engine.Unfinished) bool { return given.Event.ID == j.event.ID })
		}
		r.owed.Failed = append(r.owed.Failed, kept)
	default:
		u.InLog = r.inLog(j.event.Lane)
		r.owed.Unfinished = append(r.owed.Unfinished, *u)
	}
	due := now
	if u != nil {
		if due = now.Add(u.Delay); u.StopKey {
			due = now.Add(never)
		}
	}
	switch {
	case j.delivery && !blocks:
		r.backlog.done(id, 1)
	case j.delivery && u.Failure != nil:
		r.backlog.failed(id, j.event.Topic)
	case j.delivery && j.behind && j.attempt > 1:
		r.backlog.comesAgain(id)
	case !j.delivery && blocks:
		r.backlog.add(id, 1, due, j.event.Topic)
		r.backlog.took(id, j.event.ID)
		r.backlog.head(id, j.event.Topic) // what was in its line already is later: it waits for its topic
	}
	alone := j.counted && r.sub.many != nil // it had its row already, and no chain's end says that it may go on
	if (!j.behind || alone) && (id.key != "" || blocks) {
		r.backlog.retry(id, due)
	}
	r.report(j, u)
}

// recordParked notes that a job has been parked: its event has a row from now on.
func (r *runner) recordParked(ctx context.Context, j *job) {
	now := time.Now()
	r.owesRow(now)
	r.tellParked(ctx, j)
	if !j.counted {
		r.begin(j)
	}
	if id := lineOf(j.event); id.key != "" {
		r.backlog.wait(id, now.Add(never)) // until it returns
	}
}

// verdict says what becomes of a job whose handler has returned, or which was not tried: nil when its event is delivered. What becomes of a
// failure is decided once, since those behind it in its key go on by it or do not: the breaker may open, or the worker stop, before it
// is recorded.
func (r *runner) verdict(ctx context.Context, j *job) *engine.Unfinished {
	switch {
	case j.done():
		return nil
	case j.behind:
		return untried(j)
	case j.decided == nil || j.cause != j.failure:
		j.decided, j.cause = r.decide(ctx, j), j.failure
	}
	return j.decided
}

func untried(j *job) *engine.Unfinished {
	return &engine.Unfinished{Event: *j.event, State: outbox.Retrying, Attempt: j.attempt - 1}
}

// decide says what becomes of a job that has failed.
func (r *runner) decide(ctx context.Context, j *job) *engine.Unfinished {
	u := untried(j)
	if ctx.Err() != nil {
		return u // told to stop: that is no attempt
	}
	u.Attempt = j.attempt
	o, f := j.failure.outcome, j.failure
	switch {
	case o != nil && (o.kind == snooze || o.kind == pause):
		u.Attempt, u.Delay = j.attempt-1, o.delay
		return u
	case o != nil && o.kind == outage:
		u.Attempt, u.Delay = j.attempt-1, outageRest
	case o != nil && o.kind == forOthers:
		u.Attempt, u.ForOthers = j.attempt-1, true // else a newer worker might get it when it has none left
		u.Delay = r.sub.Retry.forOthers(time.Since(j.event.PublishedAt), rand.Float64())
	case o != nil && o.kind == skip:
		u.State = outbox.Skipped
	case o != nil && o.kind == deadLetter, j.attempt >= r.sub.Retry.MaxAttempts && !r.awayFor(j.event.Topic):
		u.State = outbox.Dead
		u.StopKey = r.sub.StopKeyOnDead && j.event.Key != ""
	case o != nil:
		u.Delay = o.delay
	default:
		u.Delay, f = f.delay(r.sub.Retry, j.attempt, cmp.Or(j.chance, rand.Float64()))
	}
	u.Failure = &engine.Failure{Attempt: j.attempt, At: time.Now().UTC(), Worker: r.worker, Error: f.text}
	return u
}

// blocks reports whether those of its key have to wait for an event.
func (r *runner) blocks(u *engine.Unfinished) bool {
	return u != nil && (u.State == outbox.Retrying || u.StopKey)
}

// report writes the line for an event that was not delivered. When many fail, it is one a second for them all.
func (r *runner) report(j *job, u *engine.Unfinished) {
	if u == nil || u.Failure == nil {
		return
	}
	if u.State != outbox.Skipped {
		r.notes.note(u.Failure.Error)
	}
	about := []any{"event_id", j.event.ID, "event_uid", j.event.UID, "topic", j.event.Topic, "key", j.event.Key, "attempt", j.attempt, "error", firstLine(u.Failure.Error)}
	switch now := time.Now(); {
	case u.State == outbox.Dead:
		r.erred.add(now, func(others int) {
			r.log.Error("event is a dead letter: kept until it is retried, skipped or discarded", withOthers(about, others)...)
		})
	case u.State == outbox.Skipped:
		r.log.Info("event was skipped", about...)
	case r.sub.BreakerAfter > 0 && j.failure.outcome != nil && j.failure.outcome.kind == outage:
		// The breaker opens with it: its line says all there is to say.
	default:
		about = append(about, "retry_in", u.Delay.Round(time.Millisecond))
		r.warned.add(now, func(others int) { r.log.Warn("event failed and will be tried again", withOthers(about, others)...) })
	}
}

// withOthers says how many other events a line stands for.
func withOthers(about []any, others int) []any {
	if others == 0 {
		return about
	}
	return append(about, "others", others)
}

// unpark records what became of parked jobs whose handlers have returned.
func (r *runner) unpark(ctx context.Context, jobs []*job) {
	for _, j := range jobs {
		if r.parked[j.event.ID] != j {
			continue // it was given up
		}
		if j.flight != nil {
			r.recordAnswered(ctx, j)
			continue
		}
		r.forget(j)
		j.state.Store(finished)
		r.record(ctx, j)
	}
	r.tellAttempts(ctx)
}

// recordAnswered records what became of a parked job that was answered, as soon as that is known: one that failed may have failed for one
// before it in its key. Those that wait for it are recorded after it.
func (r *runner) recordAnswered(ctx context.Context, j *job) {
	j.flight.returned = true
	for ; j != nil; j = j.flight.after {
		f := j.flight
		if r.parked[j.event.ID] == j {
			if !f.returned || j.failure != nil && r.inFlightBefore(j) {
				return
			}
			r.forget(j)
			j.state.Store(finished)
			f.next = j.stand(f.place)
			if r.record(ctx, j); j.behind {
				r.backlog.retry(lineOf(j.event), time.Now())
			}
		}
		if f.after != nil {
			f.after.flight.place = max(f.after.flight.place, f.place, f.next)
		}
	}
}

// inFlightBefore reports whether one before a job, of those that were parked with it, was not answered or waits itself.
func (r *runner) inFlightBefore(j *job) bool {
	for b := j.flight.before; b != nil; b = b.flight.before {
		if r.parked[b.event.ID] == b {
			return true
		}
	}
	return false
}

// abandon hands parked events whose handlers do not return to other workers, without burning an attempt.
func (r *runner) abandon() {
	for _, j := range r.parked {
		r.log.Warn("handler ignores its context: its event goes to another worker", "event_id", j.event.ID, "event_uid", j.event.UID, "topic", j.event.Topic)
		r.owes(time.Now())
		r.owed.Failed = append(r.owed.Failed, engine.Unfinished{Event: *j.event, State: outbox.Retrying, Attempt: j.attempt - 1})
		r.forget(j)
		if j.flight != nil {
			r.handlers.Go(func() { j.flight.d.conclude(j, errUnanswered) }) // so that nothing waits for it; AsyncMiddleware may end the goroutine
		}
	}
}

// forget ends what is kept of a parked job.
func (r *runner) forget(j *job) {
	if delete(r.parked, j.event.ID); j.overdue != nil {
		j.overdue.Stop()
	}
}
