package worker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/guard"
)

// PerEvent returns an error that HandleBatch and HandleBatchTx take apart again: errs has one element per event of the slice, in the
// same order, and nil for events that succeeded. Middleware may wrap it with %w. It returns nil if all elements are nil. If errs does
// not have one element per event, all events of the slice fail.
func PerEvent(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return perEvent(errs)
		}
	}
	return nil
}

type perEvent []error

func (e perEvent) Error() string   { return errors.Join(e...).Error() }
func (e perEvent) Unwrap() []error { return e }

// A manyFunc handles jobs together and sets the err of those that failed.
type manyFunc func(ctx context.Context, tx pgx.Tx, jobs []*job)

// manyOf decodes the payloads of jobs for a handler, and spreads its error over them. What does not decode is left out.
func manyOf[T any](p *payloads, handler func(ctx context.Context, tx pgx.Tx, events []*Event[T]) error) manyFunc {
	return func(ctx context.Context, tx pgx.Tx, jobs []*job) {
		values := make([]Event[T], len(jobs))
		events, asked := make([]*Event[T], 0, len(jobs)), make([]*job, 0, len(jobs))
		for i, j := range jobs {
			if j.failure = attempt(func() error { return values[i].decode(p, &j.event.Event, j.attempt) }); j.failure == nil {
				j.failure = errGoexit // until the handler has returned
				events, asked = append(events, &values[i]), append(asked, j)
			}
		}
		if len(events) == 0 {
			return
		}
		spread(func() error { return handler(ctx, tx, events) }, asked)
		for _, j := range asked {
			if errors.Is(context.Cause(ctx), errAttemptTimeout) && j.failure != nil {
				j.failure = j.failure.timedOut()
			}
		}
	}
}

// spread calls a handler with the events of jobs, and sets their failures. An error of PerEvent may be wrapped, as by middleware: its
// parts keep their meaning.
func spread(call func() error, jobs []*job) {
	var parts perEvent
	whole := attempt(func() error {
		err := call()
		parts = partsOf(err)
		if parts != nil && len(parts) != len(jobs) {
			err, parts = fmt.Errorf("handler returned errors for %d events, and had %d: %w", len(parts), len(jobs), err), nil
		}
		if parts != nil {
			return nil
		}
		return err
	})
	for i, j := range jobs {
		if j.failure = whole; parts != nil {
			j.failure = attempt(func() error { return parts[i] })
		}
	}
}

// partsOf finds the errors of PerEvent in what a handler returned, or nil. What errors.Join has joined with others is no such error: it
// applies to all events.
func partsOf(err error) perEvent {
	for ; err != nil; err = errors.Unwrap(err) {
		if parts, ok := err.(perEvent); ok { //nolint:errorlint // the loop unwraps
			return parts
		}
	}
	return nil
}

// guarded calls something for one part of jobs after the other, as long as it reports success. A handler may end the goroutine that it
// is called on: all parts share one, and the jobs of the part that ended it have failed.
func guarded(parts iter.Seq[[]*job], call func([]*job) bool) (succeeded bool) {
	var (
		part  []*job
		start time.Time
	)
	fault := guard.Call(func() {
		for part = range parts {
			if start = time.Now(); !call(part) {
				return
			}
		}
		succeeded = true
	})
	if fault == nil {
		return succeeded
	}
	for _, j := range part {
		j.failure, j.took, j.ended = faulty(fault), time.Since(start), time.Now()
	}
	return false
}

// whole is all jobs in one part.
func whole(jobs ...*job) iter.Seq[[]*job] { return slices.Chunk(jobs, max(1, len(jobs))) }

// call calls the handler with jobs, within the subscription's timeout, and reports whether all of them succeeded.
func (r *runner) call(ctx context.Context, handler manyFunc, jobs []*job) bool {
	if r.sub.Timeout != unlimited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.sub.Timeout, errAttemptTimeout)
		defer cancel()
	}
	start := time.Now()
	handler(ctx, nil, jobs)
	ended := time.Now()
	succeeded, chance := true, rand.Float64()
	for _, j := range jobs {
		j.took, j.ended, j.chance = ended.Sub(start), ended, chance
		succeeded = succeeded && j.failure == nil
		r.heed(j)
	}
	if !r.sub.solo && (succeeded || !r.sub.tx || len(jobs) == 1) { // else it is made again, in parts
		for _, part := range byTopic(jobs) {
			r.noteCall(ctx, part)
		}
	}
	return succeeded
}

// noteCall tells the breaker of a call, and what became of its events of one topic. They say as much as a quarter of the attempts that the
// breaker looks at, however many they are, and have succeeded if any of them has: one that fails by itself fails all of them, and few calls
// later it is found.
func (r *runner) noteCall(ctx context.Context, jobs []*job) {
	if i := slices.IndexFunc(jobs, func(j *job) bool { return j.failure == nil }); i >= 0 {
		jobs = jobs[i : i+1]
	} else if i := slices.IndexFunc(jobs, func(j *job) bool { return !r.breaker.isOwn(j.failedAt) }); i > 0 {
		jobs = jobs[i:] // those that fail by themselves, and come first as they are older, say nothing
	}
	for i := range max(1, r.sub.BreakerAfter/4) {
		j := jobs[i%len(jobs)]
		r.noteTrial(ctx, j, !j.delivery)
	}
}

// noteKnown tells the breaker of what has failed in a call after which it is known which events those are: of the topics of which none has succeeded.
// The others are handled again. What stands behind one of its key that failed says nothing: it may have failed for that.
func (r *runner) noteKnown(ctx context.Context, jobs []*job) {
	failed := stops{}
	var first []*job
	for at, j := range jobs {
		if failed.before(j, at) {
			continue
		}
		if first = append(first, j); !j.done() {
			failed.add(j, at)
		}
	}
	for _, part := range byTopic(first) {
		if !slices.ContainsFunc(part, (*job).done) {
			r.noteCall(ctx, part)
		}
	}
}

// byTopic sorts jobs by topic, and keeps their order otherwise.
func byTopic(jobs []*job) [][]*job {
	var parts [][]*job
	at := map[string]int{}
	for _, j := range jobs {
		i, known := at[j.event.Topic]
		if !known {
			i = len(parts)
			at[j.event.Topic], parts = i, append(parts, nil)
		}
		parts[i] = append(parts[i], j)
	}
	return parts
}

// handleMany calls the handler with all events that are tried for the first time, and before that with those that are tried again.
func (r *runner) handleMany(ctx context.Context, jobs []job) {
	start := time.Now()
	r.begun = start
	var again, fresh, probes []*job
	stopped := map[string]bool{}
	for i := range jobs {
		switch j := &jobs[i]; {
		case j.probe && !j.suspect:
			probes = append(probes, j)
		case j.suspect, j.delivery && j.attempt >= r.sub.Retry.MaxAttempts && j.attempt > 1:
			// Alone: it may be what kills its workers, and nothing is given up for the fault of others.
			if stopped[j.event.Key] = r.halted() || ctx.Err() != nil || r.againIsOver(start); stopped[j.event.Key] {
				j.behind = true
			} else if !r.callAll(ctx, []*job{j}) {
				stopped[j.event.Key] = r.stopsKey(ctx, j)
			}
		case j.again():
			again = append(again, j)
		default:
			fresh = append(fresh, j)
		}
	}
	r.tryAgain(ctx, again)
	for _, part := range byTopic(probes) { // in calls of their own: they may fail, and others must not fail with them
		if ctx.Err() == nil && !r.halted() {
			r.callAll(ctx, part)
			continue
		}
		for _, j := range part {
			j.behind = true
		}
	}
	for _, j := range append(again, probes...) {
		if !j.done() && r.stopsKey(ctx, j) {
			stopped[j.event.Key] = true
		}
	}
	if len(fresh) < len(jobs) {
		r.retries.rest(time.Since(start))
	}
	over := ctx.Err() != nil || r.halted() // asked once: a pause may end, and of a key, all wait or none
	fresh = slices.DeleteFunc(fresh, func(j *job) bool {
		j.behind = over || stopped[j.event.Key] && j.event.Key != ""
		return j.behind
	})
	if len(fresh) > 0 {
		r.callAll(ctx, fresh)
	}
	r.fitTried(jobs, time.Since(start))
}

// callAll calls the handler with jobs, and reports whether all of them succeeded.
func (r *runner) callAll(ctx context.Context, jobs []*job) bool {
	if !r.admit(ctx, len(jobs)) {
		for _, j := range jobs {
			j.behind = j.failure == nil
		}
		return false
	}
	for _, j := range jobs {
		j.failure, j.behind = nil, false // of a call with others, or one that got no token
	}
	return guarded(whole(jobs...), func(jobs []*job) bool { return r.call(ctx, r.sub.many, jobs) })
}

// tryAgain calls the handler with events that have failed: together, since an outage fails all of them and is over for all of them, but
// with half as many after each attempt, so that those which fail by themselves come apart in the end.
func (r *runner) tryAgain(ctx context.Context, jobs []*job) {
	attempt, start := 0, time.Now()
	for _, j := range jobs {
		attempt = max(attempt, j.attempt)
	}
	size := max(1, len(jobs)>>min(30, max(0, attempt-2)))
	for part := range slices.Chunk(jobs, size) {
		if ctx.Err() != nil || r.halted() || r.againIsOver(start) {
			for _, j := range part {
				j.behind = true
			}
			continue
		}
		r.halve(ctx, part)
	}
}

// halve calls the handler with jobs, and with each half if that fails. Where one half succeeds, the other is halved again; where
// neither does, both wait for their next attempt: what they fail for is hardly in one of them.
func (r *runner) halve(ctx context.Context, jobs []*job) {
	if r.callAll(ctx, jobs) {
		return
	}
	for len(jobs) > 1 && ctx.Err() == nil && !r.breaker.open() && !r.halted() {
		left, right := jobs[:len(jobs)/2], jobs[len(jobs)/2:]
		l := r.callAll(ctx, left)
		rr := !r.halted() && r.callAll(ctx, right)
		switch {
		case l && !rr:
			jobs = right
		case rr && !l:
			jobs = left
		default:
			return
		}
	}
}

// again reports whether an event has failed before, or its worker died while it ran: then it does not come with those of a window, to
// spare them. One that only waited behind such an event is treated as those of a window. An event that comes again is the first of its key in a turn.
func (j *job) again() bool { return j.delivery && (j.attempt > 1 || j.suspect || j.probe) }

// stopsKey reports whether those of its key have to wait for a job that has failed.
func (r *runner) stopsKey(ctx context.Context, j *job) bool {
	return j.event.Key != "" && r.blocks(r.verdict(ctx, j))
}
