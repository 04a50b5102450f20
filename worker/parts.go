package worker

import (
	"context"
	"errors"
	"slices"
	"time"
)

// maxBroken is how many events may break their transaction, before what is behind the last of them is put off: each costs the
// others a repetition.
const maxBroken = 8

// partsTime is how long calls with several events may have failed, in all, before one event is handled after the other. One that runs into its
// timeout would do so in each part that it is in.
const partsTime = txMost * windowTime

// inParts handles jobs in parts, none of them larger than most, and again without those that broke the transaction for the others.
func (r *runner) inParts(ctx context.Context, jobs []*job, most int) error {
	broken := map[*job]*failure{}
	for lost := 0; ; {
		before := len(broken)
		settled, err := r.settleTx(ctx, jobs, func(t *handlerTx) bool { return r.isolate(ctx, t, jobs, most, broken) })
		if err != nil || settled {
			return err
		}
		most = 1 // which of a part broke it is not known
		if len(broken) > before {
			continue
		}
		if lost++; lost > maxBroken {
			return errors.New("transactional handlers lose their connections again and again, and not in a handler")
		}
	}
}

// isolate finds the jobs that fail: it handles them in parts, each behind a savepoint. The writes of one that fails are undone, and what it had is
// handled again, in parts of half its size; behind one that does not, they are twice as large. Where the handler has said which of a part
// fail, that is known, and the others are handled again. Those behind one that failed in its key wait for it. A job that breaks the
// transaction is added to broken, and isolate returns false: all have to be handled again without it.
func (r *runner) isolate(ctx context.Context, t *handlerTx, jobs []*job, most int, broken map[*job]*failure) bool {
	r.begun, r.waitedFrom = time.Now(), time.Time{} // what is apart has its own time, or nothing might ever be tried
	clear(r.keys.spent)
	until := len(jobs)
	for i, j := range jobs {
		if j.failure, j.behind = broken[j], false; j.failure != nil && len(broken) >= maxBroken {
			until = i + 1
		}
	}
	stopped := stops{}
	var vain time.Duration
	for at, size := 0, most; at < len(jobs); {
		part, first, next := r.nextPart(ctx, jobs, at, size, until, stopped)
		if len(part) == 0 {
			break
		}
		at = first
		start := time.Now()
		if ctx.Err() != nil || !r.probing && r.breaker.open() || r.tooLate(part[0]) || !r.admit(ctx, len(part)) {
			stopped.leave(part, at)
			at = next
			continue
		}
		savepoint, err := t.Begin(ctx)
		if err != nil {
			return false
		}
		ok := guarded(whole(part...), func(jobs []*job) bool { return r.callIn(ctx, t, savepoint, jobs) })
		if ok {
			if err := t.endPart(ctx, savepoint); err != nil {
				ok = false
				for _, j := range part {
					j.failure = failureOf(err)
				}
			}
		}
		if ok {
			at, size = next, min(most, 2*size)
			continue
		}
		if t.broken || savepoint.Rollback(context.WithoutCancel(ctx)) != nil {
			t.broken = true
			if len(part) == 1 {
				broken[part[0]] = part[0].failure
			}
			return false
		}
		t.touched = false
		if len(part) == 1 {
			if r.stopsKey(ctx, part[0]) {
				stopped.add(part[0], at)
			}
			at = next
			continue
		}
		took := time.Since(start)
		if vain += took; vain >= partsTime {
			most = 1
		}
		r.leaveOut(took)
		size = min(most, len(part)/2)
		if slices.ContainsFunc(part, (*job).done) {
			r.noteKnown(ctx, part)
			continue
		}
		for _, j := range part {
			j.failure = nil
		}
	}
	for i, j := range jobs {
		if j.failure != nil && stopped.before(j, i) {
			j.failure, j.behind = nil, true // it was said to have failed, maybe for what is before it
		}
	}
	return t.end(ctx) == nil
}

// leaveOut has the window last as if it had not taken so long for something that was undone. Else it might be out of time before anything
// is done, and its events come again as they were.
func (r *runner) leaveOut(took time.Duration) {
	r.begun = r.begun.Add(took)
	if !r.waitedFrom.IsZero() {
		r.waitedFrom = r.waitedFrom.Add(took)
	}
}

// nextPart returns up to size jobs to handle together, where the first of them stands, and where those behind them begin. It passes those that have
// failed, and puts off what stands behind one of its key that has, or behind the last that may be tried.
func (r *runner) nextPart(ctx context.Context, jobs []*job, at, size, until int, stopped stops) (part []*job, first, next int) {
	for next = at; next < len(jobs) && len(part) < size; next++ {
		switch j := jobs[next]; {
		case j.failure == nil && (next >= until || stopped.before(j, next)):
			j.behind = true
		case j.failure == nil:
			if part = append(part, j); len(part) == 1 {
				first = next
			}
		case r.stopsKey(ctx, j):
			stopped.add(j, next)
		}
	}
	return part, first, next
}

// stops says from which of some jobs on those of a key wait.
type stops map[string]int

// add has those of a job's key wait that stand behind a place.
func (s stops) add(j *job, at int) {
	if before, known := s[j.event.Key]; j.event.Key != "" && (!known || at < before) {
		s[j.event.Key] = at
	}
}

// leave puts off jobs from a place on, and so all that are behind them in their keys.
func (s stops) leave(jobs []*job, at int) {
	for _, j := range jobs {
		j.behind = true
		s.add(j, at)
	}
}

// before reports whether a job at a place waits for one before it.
func (s stops) before(j *job, at int) bool {
	from, known := s[j.event.Key]
	return known && from < at
}
