package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

const (
	// windowTime is what the time of windows is measured in: how long one should take to handle at most. A crash repeats about that much.
	windowTime = time.Second
	// windowPart is which part of that windows are sized for, and windowMost how many times that one may take before it is cut.
	windowPart, windowMost = 2, 4
	// txMost is the same for a window whose events run one after the other, in a transaction.
	txMost = 2
	// tailTime is how much a chain may have left to do when all others are done or begun, and how long one may take in a transaction, which all
	// others wait for.
	tailTime = 100 * time.Millisecond
	// dueAtOnce is how many deliveries are claimed for a turn. New events wait for that: at the end of the log, where they could be handled within
	// milliseconds, a claim takes about claimTime, but claimLeast deliveries, and as many as there are hands for; of each line claimRun.
	dueAtOnce            = 512
	claimTime            = 3 * time.Millisecond
	claimLeast, claimRun = 64, 4
	// dueTime is how long the deliveries that run in the transaction of a window should take.
	dueTime = 50 * time.Millisecond
	// dueLines is from how many lines they are taken, so that there is enough to run at the same time; dueRun how many from each.
	dueLines, dueRun = 128, 256
	// A window of a strict HandleAsync that others wait for does not wait for its last few, lastFew of its chains and one of lastPart: they are
	// parked after lastTime, or lastTimes as long as answers usually take if that is more. Were there no such bound, a moment in which nothing is
	// answered would make rows of all that is in flight.
	lastFew, lastPart   = 16, 8
	lastTime, lastTimes = 4 * time.Millisecond, 2
	// abandonAfter is how long handlers whose context was cancelled may take to return.
	abandonAfter = 2 * time.Second
	// never is when a line is due that waits for something else than time.
	never = 365 * 24 * time.Hour
)

// turn handles one window and the deliveries that are due beside it. It reports whether there may be more to read.
func (r *runner) turn(ctx context.Context, read bool, due []engine.Line) (more bool, err error) {
	deliveries, err := r.claimDue(ctx, due)
	if err != nil {
		return false, err
	}
	claimed := len(deliveries)
	if len(due) > 0 && claimed == 0 {
		r.backlog.crowded = false // they are not due, or nothing of them may run
	}
	if r.backlog.crowded {
		r.joins.claimed(claimed)
	}
	if r.sub.many == nil {
		r.runBeside(ctx, deliveries)
		deliveries = nil
	}
	if r.breaker.open() {
		r.putBack() // it was sized for better times
	}
	window, ahead, behind := &engine.Window{}, read && r.ahead != nil, false // else it waits: what is handled must be owed
	switch {
	case ahead:
		window = r.ahead.window
		r.ahead = nil
	case read:
		if window, behind, err = r.read(ctx); err != nil {
			return false, err
		}
	}
	suspect := r.member.Suspect // while it reads ahead, the member is not ours to look at
	if window.More() && window.Bytes() <= r.windowBytes() && !r.sub.tx && !suspect && !r.breaker.open() && !r.paused() && r.pacer.Limiter == nil {
		r.readAhead(ctx)
	} else if err := r.settleDue(ctx); err != nil {
		return false, err
	}
	jobs, start := r.jobs(deliveries, window), time.Now()
	if r.breaker.open() && read && len(jobs) > 0 {
		r.breaker.fresh.next = start.Add(probeRest) // until it is known what became of them
	}
	if read && !window.Empty() {
		r.owesWindow(window)
	}
	begins := len(jobs) > 0 && !jobs[len(jobs)-1].delivery // those of the window come last
	alone := begins && !jobs[0].delivery
	if suspect && len(window.Events) > 0 {
		if err := r.writeDown(ctx, jobs); err != nil {
			return false, err
		}
	}
	goesOn := true // with something of the jobs
	switch {
	case len(jobs) == 0:
	case r.sub.tx:
		err = r.handleTx(ctx, jobs)
	case r.sub.many != nil:
		r.handleMany(ctx, jobs)
		r.recordAll(ctx, jobs)
	default:
		goesOn = r.handle(ctx, jobs)
		r.recordAll(ctx, jobs)
	}
	if len(window.Events) > 0 {
		r.putOffAll = !begins
	}
	if begins {
		r.newAt = start
	}
	if alone {
		r.windowTook = time.Since(start)
	}
	r.tellAttempts(ctx)
	if err == nil && len(jobs)+claimed > 0 {
		r.tellWindow(ctx, len(window.Events), claimed, time.Since(start))
	}
	if r.sub.many != nil {
		r.trust(jobs)
	}
	if !goesOn {
		reuse(jobs)
	}
	if err == nil {
		err = r.awaitAhead()
	}
	if err == nil && r.ahead == nil { // else it is recorded while the next window is handled
		err = r.settleDue(ctx)
	}
	if err != nil {
		return false, err
	}
	// What was read ahead began before the last wake-up that was taken: only another read may end in sleep.
	freed := r.noteFull()
	if len(r.member.Full) > 0 && r.feed.leave() {
		r.again = true // without these lanes
	}
	return freed || window.More() || ahead || behind, nil
}

// jobs lists what is to be handled: deliveries, and the window's events but for those behind an unfinished one of their key,
// which wait without an attempt.
func (r *runner) jobs(deliveries []engine.Delivery, window *engine.Window) []job {
	r.window = window
	jobs := r.deliveryJobs(deliveries)
	n := len(jobs)
	if n == 0 {
		jobs = used()
	}
	jobs = slices.Grow(jobs, len(window.Events))[:n+len(window.Events)]
	r.topics.beginProbes(r.sub.many == nil)
	joined := 0 // deliveries of lines that go on
	for i := range window.Events {
		e := &window.Events[i]
		blocked, flows := r.backlog.blocked(e)
		if flows {
			joined++
		}
		if blocked || !r.topics.mayBegin(e.Topic) {
			r.putOff(e)
			continue
		}
		j := &jobs[n]
		j.event, j.attempt = e, 1
		n++
	}
	r.joins.note(joined, len(window.Events))
	return jobs[:n]
}

// deliveryJobs lists the deliveries that are to be handled. What becomes of others is recorded at once.
func (r *runner) deliveryJobs(deliveries []engine.Delivery) []job {
	jobs := make([]job, len(deliveries))
	n := 0
	var (
		begun map[string]bool // of the keys of probes
		ended map[string]bool // keys with one that is not tried: whether those behind it wait for that
	)
	for i := range deliveries {
		d := &deliveries[i]
		key := d.Event.Key
		waits, goesOn := ended[key]
		if waits {
			continue
		}
		if j := r.untriable(d); j != nil {
			if ended == nil {
				ended = map[string]bool{}
			}
			if key != "" && hasKey(jobs[:n], key) {
				ended[key] = true
				continue // not before it is the head: its line would go on beside those that are tried
			}
			j.state.Store(finished)
			r.record(context.Background(), j)
			if key != "" {
				ended[key] = r.blocks(r.verdict(context.Background(), j))
			}
			continue
		}
		if goesOn && r.sub.many == nil {
			r.backlog.wait(lineOf(&d.Event), time.Now().Add(never)) // until its chain ends
		}
		j := &jobs[n]
		if len(r.topics.opened) > 0 { // of a key, a probe is the first: it is tried before the others
			open := r.topics.opened[d.Event.Topic] != nil
			if open && begun[key] {
				if ended == nil {
					ended = map[string]bool{}
				}
				ended[key] = true
				continue
			}
			j.probe = open
			if begun == nil {
				begun = map[string]bool{}
			}
			begun[key] = key != ""
		}
		j.event, j.attempt, j.delivery, j.counted, j.suspect, j.failedAt = &d.Event, max(1, d.Attempt), true, d.Running, d.Suspect, d.FailedAt
		n++
	}
	return jobs[:n]
}

func hasKey(jobs []job, key string) bool {
	for i := range jobs {
		if jobs[i].event.Key == key {
			return true
		}
	}
	return false
}

// untriable returns the job of a delivery that is not to be handled, or nil. One that has had all its attempts is a dead letter, and one of a topic
// that this worker does not know waits for another.
func (r *runner) untriable(d *engine.Delivery) *job {
	if f := r.strange(&d.Event); f != nil {
		return &job{event: &d.Event, attempt: max(1, d.Attempt), delivery: true, counted: d.Running, failure: f}
	}
	if d.Gone {
		f := failureOf(DeadLetter(errors.New("its event was deleted from the log by hand, and there is no copy of it")))
		return &job{event: &d.Event, attempt: max(1, d.Attempt), delivery: true, counted: d.Running, failure: f}
	}
	if d.Attempt > r.sub.Retry.MaxAttempts {
		// What became of its last attempt was noted when its worker was evicted.
		f := failureOf(DeadLetter(fmt.Errorf("attempt %d, the last one, did not end: its worker died or lost its session", d.Attempt-1)))
		return &job{event: &d.Event, attempt: d.Attempt - 1, delivery: true, counted: true, noted: true, failure: f}
	}
	return nil
}

// writeDown gives each event of a suspect window its row, with the attempt counted, before its handler starts: so one that
// kills its process is known next time.
func (r *runner) writeDown(ctx context.Context, jobs []job) error {
	for i := range jobs {
		if j := &jobs[i]; !j.delivery {
			r.begin(j)
		}
	}
	return r.settle(ctx)
}

// begin writes down that an event is being handled, in its row or, for one of a window, in one that it gets for that.
func (r *runner) begin(j *job) {
	u := engine.Unfinished{Event: *j.event, State: outbox.Running, Attempt: j.attempt, InLog: r.inLog(j.event.Lane)}
	if j.delivery {
		r.owed.Parked = append(r.owed.Parked, u)
	} else {
		r.owed.Unfinished = append(r.owed.Unfinished, u)
		r.backlog.add(lineOf(j.event), 1, time.Now().Add(never), j.event.Topic)
		r.backlog.took(lineOf(j.event), j.event.ID)
	}
	j.delivery, j.counted = true, true
}

// handle runs the handlers of a window, and ends in time. What takes longer than ParkAfter is parked. A key with more events than there
// is time for would hold up all others: so once every chain has begun, those that still have much to do are cut, and what is left of
// them waits. A window whose events are all slow is not cut before it has had its time several times over, since what waits costs a row:
// the next one is smaller. It reports whether somebody goes on with one of the jobs, or may: of what answers later, that is not known.
func (r *runner) handle(ctx context.Context, jobs []job) (goesOn bool) {
	x, b := r.executor(ctx), newBatch(jobs)
	b.start(ctx, &r.handlers, x, r.sub.Concurrency)
	every := tailTime / 2
	if r.parksLast() {
		every = lastTime / 2
	}
	look := time.NewTimer(min(r.sub.ParkAfter, 2*every))
	defer look.Stop()
	abandon := ctx.Done()
	var given <-chan time.Time
	for waiting := true; waiting; {
		limit, most := r.sub.ParkAfter, r.mayPark()
		select {
		case <-b.done:
			waiting = false
			continue
		case <-look.C:
			look.Reset(min(r.sub.ParkAfter/4, every))
		case <-abandon: // they have been told: a moment to return
			abandon, given = nil, time.After(abandonAfter)
			continue
		case <-given:
			limit, most = 0, len(jobs)
		}
		if r.outlasts(time.Since(b.begun)) {
			b.end()
			limit = 0
		}
		found := b.park(limit, most, 0)
		if b.taken.Load() >= int64(len(b.heads)) {
			found = append(found, b.park(0, most-len(found), tailTime)...)
		}
		if r.parksLast() && b.left.Load() <= int64(lastFew+len(b.heads)/lastPart) && r.othersWait() {
			found = append(found, b.park(min(r.sub.ParkAfter, max(lastTime, lastTimes*r.usual)), min(most, r.free())-len(found), 0)...)
		}
		goesOn = goesOn || len(found) > 0
		for _, j := range found {
			r.log.Debug("event takes long: its window goes on without it", "event_id", j.event.ID, "event_uid", j.event.UID, "topic", j.event.Topic)
			r.park(b, j)
			b.work(ctx, &r.handlers, x)
		}
	}
	for _, head := range b.heads {
		r.goOnUnbegun(b, head)
	}
	r.fitTried(jobs, time.Since(b.begun))
	return goesOn || r.sub.begin != nil
}

// parksLast reports whether windows do not wait for their last few. What answers later is elsewhere, so that some of it may take a hundred times
// as long as the rest: one slow webhook endpoint among others would hold up all that is published for ParkAfter, again and again. What
// pipelines is answered in turns of its client, and parked by whole keys: there it would be a row for each event in flight.
func (r *runner) parksLast() bool {
	return r.sub.begin != nil && !r.sub.pipelined && r.sub.ParkAfter < unlimited
}

// othersWait reports whether there is something to handle behind this window.
func (r *runner) othersWait() bool { return r.ahead != nil || r.feed.holds() || r.wake.rings(r.mask()) }

// expectsNew reports whether something waits that may begin, or may well come while something else is done: it would wait for the end of that.
func (r *runner) expectsNew() bool {
	return !r.putOffAll && r.othersWait() || time.Since(r.newAt) < windowTime
}

// sparesNew reports whether that should take milliseconds. Where windows take long, what is new waits for those, and the fewer turns there are,
// the more each has to do.
func (r *runner) sparesNew() bool { return r.windowTook < dueTime && r.expectsNew() }

// tookUsually has what answers usually take follow the one that took so long: it is about their median.
func (r *runner) tookUsually(took time.Duration) {
	const step = 16
	if took > r.usual {
		r.usual += max(r.usual/step, 100*time.Microsecond)
	} else {
		r.usual -= r.usual / step
	}
}

// outlasts reports whether a window that has taken so long is cut, whatever is left of it.
func (r *runner) outlasts(took time.Duration) bool {
	return took >= windowMost*windowTime && took >= r.sub.ParkAfter
}

func (r *runner) executor(ctx context.Context) executor {
	x := executor{
		handler: r.sub.each, begin: r.sub.begin, pipelined: r.sub.pipelined, timeout: r.sub.Timeout,
		stops: func(j *job) bool {
			r.heed(j)
			return r.blocks(r.verdict(ctx, j))
		},
		inFlight: &r.notes.inFlight,
		paused:   r.halted,
		unparked: func(j *job) {
			r.unreturned.Add(-1)
			r.wake.add(func(w *wakeup) { w.unparked = append(w.unparked, j) })
		},
		tell: r.tellAnswer,
	}
	if r.pacer.Limiter != nil {
		x.admit = func(end time.Time) bool { return r.pacer.admit(ctx, 1, end) }
	}
	return x
}

// park remembers a job that was parked in a batch.
func (r *runner) park(b *batch, j *job) {
	r.parked[j.event.ID] = j
	r.unreturned.Add(1)
	r.watch(j, time.Since(b.begun)-time.Duration(j.started.Load()))
}

// mayPark is how many more jobs may be parked. Those that have returned do not count, also while a window waits and they are not recorded: it
// may be that it waits for what is never answered, and ends once it is parked.
func (r *runner) mayPark() int { return r.sub.Concurrency - int(r.unreturned.Load()) }

// watch reports a parked job whose handler goes on after its time: nothing can stop it, and it keeps its place and its key. Where the
// handler would answer later, the job has failed.
func (r *runner) watch(j *job, taken time.Duration) {
	if r.sub.Timeout == unlimited {
		return
	}
	j.overdue = time.AfterFunc(r.sub.Timeout+r.sub.Timeout/deadlineSpare-taken+abandonAfter, func() {
		if j.flight != nil {
			j.flight.d.conclude(j, errUnanswered)
			return
		}
		r.log.Warn("handler ignores that its context has ended: it goes on, and its key waits for it",
			"event_id", j.event.ID, "event_uid", j.event.UID, "topic", j.event.Topic, "key", j.event.Key, "timeout", r.sub.Timeout)
	})
}

// dueTogether is how many deliveries a handler of batches is called with at once: as many as with new events, because what has failed in
// one call would come back in dozens of them. In a transaction they come one by one.
func (r *runner) dueTogether() int {
	if r.sub.many == nil || r.sub.tx {
		return 0
	}
	return r.limit
}

// fitTried is fit for the jobs that were begun.
func (r *runner) fitTried(jobs []job, took time.Duration) {
	tried := len(jobs)
	for i := range jobs {
		if jobs[i].behind {
			tried--
		}
	}
	r.fit(tried, took)
}

// fit sizes the next window so that it takes about a part of windowTime.
func (r *runner) fit(handled int, took time.Duration) {
	if handled > 0 {
		r.pace = took / time.Duration(handled)
	}
	fitting := float64(handled) * float64(windowTime/windowPart) / float64(max(took, time.Microsecond))
	r.limit = int(min(float64(r.sub.WindowSize), max(float64(r.sub.Concurrency), fitting)))
}

// suspects tells which deliveries whose worker died while they ran may be tried now. One that has been tried before, or whose last
// attempt it would be, runs alone: it may be what kills its workers, and must not use up the attempts of others.
func (r *runner) suspects() engine.Suspects {
	s := engine.Suspects{Together: min(2, r.sub.Retry.MaxAttempts-1), Limit: r.trusted, Alone: true}
	running := func(j *job) {
		if j.suspect {
			s.Alone = false
			if j.attempt > s.Together {
				s.Limit = 0
			}
		}
	}
	for _, j := range r.parked {
		running(j)
	}
	for j := range r.openJobs() {
		running(j)
	}
	return s
}

// trust doubles how many suspects are begun at once when those of a turn have left the worker alive: so a killer takes few others
// with it, and the thousands that ran beside it do not take a turn each.
func (r *runner) trust(jobs []job) {
	for i := range jobs {
		if jobs[i].suspect && !jobs[i].behind {
			r.trusted = min(2*r.trusted, dueRun)
			return
		}
	}
}

// isCurrent reports whether the last window had all that there was to read.
func (r *runner) isCurrent() bool { return r.window != nil && !r.window.More() }

// claimFitting is how many deliveries the next claim takes, the least or more, after one of so many took so long.
func claimFitting(claimed, least int, took time.Duration) int {
	fitting := float64(claimed) * float64(claimTime) / float64(max(took, time.Microsecond))
	return int(max(float64(least), min(dueAtOnce, 2*float64(claimed), fitting)))
}

// linesWith is how many of the lines have so many deliveries, with claimRun of each.
func (r *runner) linesWith(lines []engine.Line, most int) int {
	for i := range lines {
		if l := r.backlog.line(idOf(lines[i])); l != nil {
			n := min(claimRun, l.count)
			if lines[i].Alone {
				n = 1
			}
			most -= n
		}
		if most <= 0 {
			return i + 1
		}
	}
	return len(lines)
}

// leave returns so many lines, and leaves the others to the next turn.
func (r *runner) leave(lines []engine.Line, most int) []engine.Line {
	for len(lines) > most {
		last := lines[len(lines)-1]
		lines = lines[:len(lines)-1]
		r.backlog.wait(idOf(last), time.Now())
		r.backlog.crowded = r.backlog.crowded || !last.Alone
	}
	return lines
}

// claimDue claims what may run now of the lines that are due, and remembers when to look at the others again.
func (r *runner) claimDue(ctx context.Context, lines []engine.Line) ([]engine.Delivery, error) {
	if len(lines) == 0 {
		return nil, nil
	}
	if err := r.settle(ctx); err != nil { // what the claim looks at must be there
		return nil, err
	}
	most := max(1, r.pacer.room(max(dueAtOnce, r.dueTogether())))
	if r.claims > 0 && r.sub.many == nil && r.isCurrent() && r.sparesNew() {
		most = min(most, r.claims)
		lines = r.leave(lines, r.linesWith(lines, most))
	}
	if r.breaker.open() {
		most = r.breaker.again.size
		r.breaker.again.next = time.Now().Add(probeRest) // until it is known what became of them
	}
	if r.sub.solo && r.pace > 0 { // they run in the transaction of the window, one after the other
		most = int(min(time.Duration(most), max(1, dueTime/r.pace)))
	}
	lines = r.leave(lines, most)
	var deliveries []engine.Delivery
	var waiting []engine.Line
	start := time.Now()
	err := r.patiently(ctx, func(ctx context.Context) (err error) {
		deliveries, waiting, err = r.member.ClaimDue(ctx, lines, r.waited.most(min(dueRun, most/len(lines))), r.suspects(), r.tried())
		return err
	})
	if err != nil {
		return nil, err
	}
	if n, least := len(deliveries), max(claimLeast, r.sub.Concurrency); n >= least/2 {
		r.claims = claimFitting(n, least, time.Since(start))
	}
	// Of a line that the database says nothing more about, only what runs right now is left.
	now := time.Now()
	running := map[lineID]bool{}
	for i := range deliveries {
		running[lineOf(&deliveries[i].Event)] = true
	}
	for _, j := range r.parked {
		running[lineOf(j.event)] = true
	}
	for j := range r.openJobs() {
		running[lineOf(j.event)] = true
	}
	known := map[lineID]bool{}
	for _, l := range waiting {
		id := idOf(l)
		known[id] = true
		soonest := time.Millisecond
		switch {
		case r.sub.many == nil && running[id] && id.key != "":
			soonest = never // until its chain ends
		case !running[id] && (len(r.parked) > 0 || len(deliveries) == 0 && l.Due <= 0):
			soonest = 100 * time.Millisecond // it may be due, and wait for one of those, or for somebody who decides about it
		}
		r.backlog.wait(id, now.Add(max(l.Due, soonest)))
		r.backlog.atLeast(id, l.Count)
	}
	for _, l := range lines {
		switch id := idOf(l); {
		case known[id]:
		case running[id] && r.sub.many != nil:
			r.backlog.wait(id, now.Add(time.Millisecond)) // in this turn, or not at all if that has no time for it
		case running[id]:
			r.backlog.wait(id, now.Add(never)) // until its chain ends
		default:
			r.backlog.drop(id)
		}
	}
	return deliveries, nil
}
