package worker

import (
	"context"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

const (
	// The breaker opens when of the last attempts, as many as Subscription.BreakerAfter says, no more than one in breakerSpares have
	// succeeded, and the others were at events of breakerKeys keys, or so many without one.
	breakerSpares, breakerKeys, breakerLeast = 10, 5, 5
	// A probe begins with probeLeast events. Where half of them succeed, the next one has twice as many, at once, up to probeMost;
	// then the breaker closes. Where they do not, the next one comes after a pause, which grows from probeSoon to probeRest, but not in the first
	// probeBrief: by then some fifty keys that fail have rows and are probed apart, and what is left to try is events of others. Where events share
	// a call or a transaction, more of them would tell nothing of a key.
	probeLeast, probeMost = 5, 320
	probeSoon, probeRest  = 100 * time.Millisecond, 5 * time.Second
	probeBrief            = time.Second
	// outageRest is how long an event waits after [Outage].
	outageRest = probeRest
)

// A breaker tells an outage of what handlers call from events that fail. While it is open, little is read and little is tried again, and
// attempts that fail are not counted: so an outage of hours leaves a lag, and no dead letters.
//
// What is read and what is tried again are probed apart: events that always fail do not stop those that have never been tried.
type breaker struct {
	last   []trial // as many as it looks at; none where it is off
	n      int     // attempts so far
	since  time.Time
	worked time.Time // when an attempt has last succeeded
	fresh  probe     // events of windows
	again  probe     // deliveries
}

// A trial is an attempt that was made, and what can be given back of it.
type trial struct {
	key    string
	id     int64
	lane   int16
	number int
	failed bool
	at     time.Time // when it ended
	first  time.Time // when its event had failed for the first time; zero where it had not
}

// A probe paces attempts while the breaker is open.
type probe struct {
	size      int
	pause     time.Duration
	next      time.Time // when there may be another
	succeeded int
	failed    int
}

func (b *breaker) open() bool { return !b.since.IsZero() }

// note takes the result of an attempt, and reports whether it looks as if what handlers call is away.
func (b *breaker) note(t trial, fresh bool) (down bool) {
	p := &b.again
	if fresh {
		p = &b.fresh
	}
	if t.failed && b.isOwn(t.first) {
		p.failed++
		return false
	}
	last := &b.last[b.n%len(b.last)]
	if t.failed || last.failed { // of what succeeds, nothing else is kept
		*last = t
	}
	b.n++
	if !t.failed {
		b.worked = t.at
		p.succeeded++
		return false
	}
	p.failed++
	return !b.open() && b.n >= len(b.last) && b.outage()
}

// isOwn reports whether an event that fails, and did so for the first time then, does that by itself: others have succeeded since. That says nothing about what handlers
// call. Else keys that always fail would open the breaker again and again, where little else is tried.
func (b *breaker) isOwn(first time.Time) bool { return !first.IsZero() && first.Before(b.worked) }

// trip opens the breaker.
func (b *breaker) trip() {
	b.since = time.Now()
	b.fresh, b.again = probe{size: probeLeast}, probe{size: probeLeast}
	for _, p := range []*probe{&b.fresh, &b.again} {
		p.pause, p.next = probeSoon, b.since.Add(probeSoon)
	}
}

func (b *breaker) outage() bool {
	type subject struct {
		key string
		id  int64 // of an event without a key
	}
	subjects := map[subject]bool{}
	succeeded := 0
	for _, t := range b.last {
		switch {
		case !t.failed:
			succeeded++
		case t.key == "":
			subjects[subject{id: t.id}] = true
		default:
			subjects[subject{key: t.key}] = true
		}
	}
	return succeeded <= len(b.last)/breakerSpares && len(subjects) >= breakerKeys
}

// judge looks at what the last probes have found, and reports whether the breaker closes. The pauses between probes do not grow while it has been open
// for less than brief.
func (b *breaker) judge(now time.Time, brief time.Duration) (closes bool) {
	if !b.open() {
		return false
	}
	for _, p := range []*probe{&b.fresh, &b.again} {
		switch tried := p.succeeded + p.failed; {
		case tried == 0:
			continue
		case 2*p.succeeded >= tried:
			p.size, p.pause = 2*p.size, 0
		case now.Sub(b.since) < brief:
			p.size, p.pause = probeLeast, probeSoon
		default:
			p.size, p.pause = probeLeast, min(probeRest, max(probeSoon, 2*p.pause))
		}
		p.succeeded, p.failed = 0, 0
		p.next = now.Add(p.pause)
		closes = closes || p.size > probeMost
	}
	if closes {
		*b = breaker{last: make([]trial, len(b.last)), worked: b.worked}
	}
	return closes
}

// probeNow ends the pauses before the next probes.
func (b *breaker) probeNow(now time.Time) {
	for _, p := range []*probe{&b.fresh, &b.again} {
		p.pause, p.next = probeSoon, now
	}
}

// trial describes a job that was tried, and fresh whether it came from a window.
func (j *job) trial() trial {
	return trial{key: j.event.Key, id: j.event.ID, lane: j.event.Lane, number: j.attempt, failed: j.failure != nil, at: j.ended, first: j.failedAt}
}

// tells reports whether a job's result says anything about what its handler calls: not one that was not tried, and not what the
// handler wants with this very event.
func (j *job) tells() bool {
	if j.behind || j.ended.IsZero() {
		return false
	}
	if j.failure == nil || j.failure.outcome == nil {
		return true
	}
	return j.failure.outcome.kind == retryAfter || j.failure.outcome.kind == outage
}

// noteTrial tells the breaker of a job that was tried. What opens it is given back its attempts.
func (r *runner) noteTrial(ctx context.Context, j *job, fresh bool) {
	if len(r.breaker.last) == 0 || !j.tells() || ctx.Err() != nil {
		return
	}
	t := j.trial()
	down := r.breaker.note(t, fresh)
	topic, topicDown := r.topics.note(t, j.event.Topic, fresh, len(r.breaker.last))
	var trials []trial
	switch {
	case r.breaker.open():
	case down && !r.topics.works(j.ended, nil):
		trials = r.breaker.last
		r.openAll(ctx, "nearly every attempt fails", j.failure)
	case topicDown && len(r.topics.opened) < topicsOpen && r.topics.works(j.ended, topic):
		trials = topic.last
		r.openTopic(ctx, topic, j.failure)
	}
	for _, t := range trials {
		if t.failed && t.id != j.event.ID {
			r.giveBack(t)
		}
	}
}

// openAll opens the subscription's breaker, in place of those of topics.
func (r *runner) openAll(ctx context.Context, what string, why *failure) {
	r.breaker.trip()
	for _, b := range r.topics.opened {
		r.joinTopic(b)
	}
	r.log.Warn(what+": reading little, and counting no attempt that fails, until they succeed", "error", firstLine(why.text))
	r.outage.Store(true)
	r.tellBreaker(ctx, BreakerState{Subscription: r.sub.Name, Open: true, At: r.breaker.since, Cause: why.cause()})
}

// giveBack takes back the count of an attempt that failed, unless its event is running again, or its lane is another worker's now.
func (r *runner) giveBack(t trial) {
	if r.mask()&(1<<t.lane) == 0 {
		return
	}
	for _, list := range [][]engine.Unfinished{r.owed.Unfinished, r.owed.Failed} {
		for i := range list {
			if u := &list[i]; u.Event.ID == t.id {
				if u.State == outbox.Retrying {
					u.Attempt = min(u.Attempt, t.number-1) // of several attempts, all are given back
				}
				return
			}
		}
	}
	if r.parked[t.id] != nil {
		return
	}
	for j := range r.openJobs() {
		if j.event.ID == t.id {
			return
		}
	}
	var e engine.Event
	e.ID, e.Lane = t.id, t.lane
	r.owed.Failed = append(r.owed.Failed, engine.Unfinished{Event: e, State: outbox.Retrying, Attempt: t.number - 1, Delay: probeRest})
}

// probeBrief is for how long the pauses between probes do not grow.
func (r *runner) probeBrief() time.Duration {
	if r.sub.many != nil {
		return 0
	}
	return probeBrief
}

// judge paces what is read and tried again while the breaker is open. It also records when that has opened or closed, since the member's
// connection is free here: the trials that open it come while the next window is read ahead.
func (r *runner) judge(ctx context.Context) error {
	if why := r.away.Swap(nil); why != nil && !r.breaker.open() {
		r.openAll(ctx, "what the handler calls is away", why)
	}
	now, since := time.Now(), r.breaker.since
	if r.breaker.judge(now, r.probeBrief()) {
		r.log.Info("attempts succeed again", "after", now.Sub(since).Round(time.Millisecond))
		r.outage.Store(false)
		r.tellBreaker(ctx, BreakerState{Subscription: r.sub.Name, At: now})
	}
	r.judgeTopics(ctx, now)
	open := r.openFor()
	if slices.Equal(open, r.recorded) {
		return nil
	}
	r.recorded = open
	var topics []string
	if !r.breaker.open() {
		topics = open
	}
	return r.patiently(ctx, func(ctx context.Context) error { return r.member.RecordBreaker(ctx, len(open) > 0, topics) })
}

// heedProbe probes at once while the breaker is open, if an operator has asked for that since the last time.
func (r *runner) heedProbe(asked time.Time) {
	if !asked.After(r.probedAt) {
		return
	}
	r.probedAt = asked
	if len(r.openFor()) == 0 {
		return
	}
	r.log.Info("an operator asked for it: trying at once whether attempts succeed again")
	now := time.Now()
	r.breaker.probeNow(now)
	for _, b := range r.topics.opened {
		b.probeNow(now)
	}
}

// mayRead reports whether something may be read now. A subscription with a rate reads on once nothing is due that it has read: it would
// else copy the log into deliveries.
func (r *runner) mayRead() bool {
	now := time.Now()
	if r.paused() || r.breaker.open() && now.Before(r.breaker.fresh.next) || r.pacer.room(1) == 0 {
		return false
	}
	return r.pacer.Limiter == nil || r.breaker.open() || !r.backlog.isDue(now) // while it is open, something that fails may always be due
}

// mayTry reports whether something may be tried again now.
func (r *runner) mayTry() bool {
	return !r.paused() && (!r.breaker.open() || !time.Now().Before(r.breaker.again.next)) && r.pacer.room(1) > 0
}

// paused reports whether a handler has asked to begin nothing for now.
func (r *runner) paused() bool {
	until := r.pausedUntil.Load()
	return until != 0 && time.Now().UnixNano() < until
}

// halted reports whether nothing may begin for now: a handler has asked for that, or the breaker is about to open because one has said
// that what it calls is away.
func (r *runner) halted() bool { return r.paused() || r.away.Load() != nil }

// heed notes what a handler has asked for that is about all events. Safe for concurrent use.
func (r *runner) heed(j *job) {
	switch {
	case j.failure == nil || j.failure.outcome == nil:
	case j.failure.outcome.kind == pause:
		r.notePause(j)
	case j.failure.outcome.kind == outage && r.sub.BreakerAfter > 0 && !r.outage.Load():
		r.away.Store(j.failure)
	}
}

// mayTellPause keeps lines about pauses to one a second: an API that lets a call through ten times a second would make ten.
func (r *runner) mayTellPause(now time.Time) bool {
	told := r.pauseTold.Load()
	return now.UnixNano()-told >= digestEvery.Nanoseconds() && r.pauseTold.CompareAndSwap(told, now.UnixNano())
}

func (r *runner) notePause(j *job) {
	now := time.Now()
	until := now.Add(min(j.failure.outcome.delay, never)).UnixNano() // nanoseconds end with the year 2262
	for {
		before := r.pausedUntil.Load()
		if until <= before {
			return
		}
		if r.pausedUntil.CompareAndSwap(before, until) {
			r.notes.note(j.failure.text)
			if before < now.UnixNano() && r.mayTellPause(now) {
				r.log.Info("paused by the handler", "for", j.failure.outcome.delay, "reason", firstLine(j.failure.text))
			}
			return
		}
	}
}
