package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A dispatcher begins the jobs of a batch for a handler of HandleAsync, and takes their answers. What is in flight is a count, not a goroutine:
// whoever brings an answer has a goroutine go on where there is more to begin, one at a time.
type dispatcher struct {
	b     *batch
	x     executor
	group *sync.WaitGroup // has one for each job in flight
	of    []int32         // the index of its chain, by job
	spawn func(hand int)  // has a goroutine begin jobs
	ended func() bool     // whether the batch's context has

	mu      sync.Mutex
	chains  []flying
	free    int     // how many more may be in flight
	ready   []int32 // strict: chains whose next job may begin
	next    int     // pipelined: the first job that was not looked at yet; strict: the first chain
	stopped bool    // nothing more begins
	hand    int     // counts the goroutines that begin jobs,
	busy    bool    // and whether the last of them does,
	calling int32   // and the job whose handler it calls
	lease   *lease
}

// A flying is how far a chain is.
type flying struct {
	begun    time.Duration // since the batch began; 0 before that
	at       int32         // strict: the job to begin next
	waiting  int32         // jobs that have not begun
	inFlight int32
	ended    bool
}

// A flight is one attempt that is answered later.
type flight struct {
	d        *dispatcher
	at       int32 // index of its job
	lease    *lease
	answered atomic.Bool
	ended    func(error) // what AsyncMiddleware has called with the answer
	stops    bool        // those behind it have to wait for it

	// Of those of one chain that were parked together, which belong to the runner:
	before, after *job
	place, next   place // its own, and that of the one behind it once it is recorded
	returned      bool  // it was answered
}

// A place says what has become of those before a job in its chain.
type place int8

const (
	behindNone    place = iota
	behindFailed        // one has failed for good: a client that pipelines may have failed those behind it as well
	behindWaiting       // one will be tried again, or stops its key: those behind it wait
)

// A lease is a context that is shared by attempts which began about the same time. It is cancelled when all of them are answered.
type lease struct {
	context.Context
	cancel context.CancelFunc
	until  time.Duration // when no further attempt begins with it
	users  int
}

func newDispatcher(ctx context.Context, b *batch, group *sync.WaitGroup, x executor, limit int) *dispatcher {
	d := &dispatcher{
		b: b, x: x, group: group, of: make([]int32, len(b.jobs)), ended: func() bool { return ctx.Err() != nil },
		chains: make([]flying, len(b.heads)), free: limit, calling: none,
	}
	d.spawn = func(hand int) { group.Go(func() { d.work(ctx, hand) }) }
	for c, head := range b.heads {
		d.chains[c].at = head
		for at := head; at != none; at = b.next[at] {
			d.of[at] = int32(c)
			if !b.jobs[at].behind {
				d.chains[c].waiting++
			}
		}
	}
	return d
}

// start begins the jobs.
func (d *dispatcher) start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.goOn()
}

// end has nothing begin any more.
func (d *dispatcher) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stop()
}

// goOn has a goroutine begin what may begin. The caller holds the lock, as those of all below.
func (d *dispatcher) goOn() {
	if d.busy || d.free <= 0 || d.stopped {
		return
	}
	if more := len(d.ready) > 0 || d.next < len(d.b.heads); d.x.pipelined && d.next >= len(d.b.jobs) || !d.x.pipelined && !more {
		return
	}
	d.busy = true
	d.hand++
	d.spawn(d.hand)
}

// work begins one job after the other, until as many are in flight as may be, or nothing is left that may begin.
func (d *dispatcher) work(ctx context.Context, hand int) {
	at := none
	defer func() {
		if at != none { // the handler has ended this goroutine
			defer d.rest(hand) // also where AsyncMiddleware ends it again
			d.conclude(&d.b.jobs[at], errGoexit)
		}
	}()
	for {
		if at = d.take(ctx, hand); at == none {
			return
		}
		j := &d.b.jobs[at]
		if d.x.admit != nil && !d.admit(ctx, j) {
			continue
		}
		f := j.flight
		if failed := attempt(func() error { return d.x.begin(f.lease, &j.event.Event, j.attempt, f) }); failed != nil {
			d.conclude(j, failed)
		}
	}
}

// rest notes that a goroutine begins nothing more, and has another one go on if there is something to begin.
func (d *dispatcher) rest(hand int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hand == hand {
		d.busy, d.calling = false, none
		d.goOn()
	}
}

// take takes the next job that begins. There is none, and another goroutine may go on later, when the job whose handler has held this one up
// was parked.
func (d *dispatcher) take(ctx context.Context, hand int) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hand != hand {
		return none
	}
	d.calling = none
	now := time.Since(d.b.begun)
	if d.halts() {
		d.stop()
	}
	for d.free > 0 && !d.stopped {
		at := d.pick()
		if at == none {
			break
		}
		j, c := &d.b.jobs[at], &d.chains[d.of[at]]
		if c.ended || j.behind {
			continue
		}
		if c.begun == 0 {
			c.begun = max(1, now)
			d.b.taken.Add(1)
		}
		if d.x.yield > 0 && now-c.begun > d.x.yield {
			d.leave(at)
			d.finish(d.of[at])
			continue
		}
		c.waiting--
		c.inFlight++
		d.free--
		d.group.Add(1)
		d.x.inFlight.Add(1)
		j.flight = &flight{d: d, at: at, lease: d.lend(ctx, now)}
		j.state.Store(admitting)
		if d.x.admit == nil {
			j.started.Store(int64(now))
			j.state.Store(running)
		}
		d.calling = at
		return at
	}
	d.busy = false
	return none
}

// pick returns the next job in line, or none.
func (d *dispatcher) pick() int32 {
	switch {
	case d.x.pipelined && d.next < len(d.b.jobs):
		d.next++
		return int32(d.next - 1)
	case d.x.pipelined:
		return none
	case len(d.ready) > 0:
		c := d.ready[0]
		d.ready = d.ready[1:]
		return d.chains[c].at
	case d.next < len(d.b.heads):
		d.next++
		return d.b.heads[d.next-1]
	}
	return none
}

// halts reports whether nothing may begin.
func (d *dispatcher) halts() bool {
	return d.ended() || d.b.over.Load() || d.x.paused()
}

// admit waits until a job may begin, and reports whether it does.
func (d *dispatcher) admit(ctx context.Context, j *job) bool {
	c := &d.chains[d.of[j.flight.at]]
	admitted := d.x.admit(d.b.begun.Add(c.begun + windowTime))
	d.mu.Lock()
	defer d.mu.Unlock()
	if admitted && !c.ended && !d.halts() {
		now := time.Since(d.b.begun)
		d.release(j.flight.lease)
		j.flight.lease = d.lend(ctx, now)
		j.started.Store(int64(now))
		j.state.Store(running)
		return true
	}
	c.inFlight--
	d.free++
	d.release(j.flight.lease)
	d.x.inFlight.Add(-1)
	d.group.Done()
	if !c.ended { // else the job is the runner's by now
		j.state.Store(waiting)
		j.behind = true
		d.leave(j.flight.at)
		d.finish(d.of[j.flight.at])
	}
	return false
}

// done is what the handler is given to answer with. An error whose methods end the goroutine is an answer, too.
func (f *flight) done(err error) {
	failed := errGoexit
	defer func() { f.d.conclude(&f.d.b.jobs[f.at], failed) }()
	failed = attempt(func() error { return err })
}

// follow has a function called with the answer. If that is known by now, it is called at once.
func (f *flight) follow(ended func(error)) {
	f.d.mu.Lock()
	answered := f.answered.Load()
	if before := f.ended; !answered {
		if f.ended = ended; before != nil {
			f.ended = func(err error) {
				defer before(err) // also if ended panics
				ended(err)
			}
		}
	}
	f.d.mu.Unlock()
	if answered { // while middleware held it up
		f.d.x.tell(ended, errUnanswered.cause())
	}
}

// conclude notes what became of a job, unless that is known.
func (d *dispatcher) conclude(j *job, failed *failure) {
	if !j.flight.answered.CompareAndSwap(false, true) {
		return
	}
	defer d.group.Done()
	d.x.inFlight.Add(-1)
	ended, failed := d.note(j, failed)
	switch {
	case ended == nil:
	case failed == nil:
		d.x.tell(ended, nil)
	default:
		d.x.tell(ended, failed.cause())
	}
}

// note notes what became of a job, and returns what is to be called with it. The job may be the runner's afterwards.
func (d *dispatcher) note(j *job, failed *failure) (ended func(error), noted *failure) {
	f := j.flight
	if failed != nil && failed != errUnanswered && errors.Is(context.Cause(f.lease), errAttemptTimeout) {
		failed = failed.timedOut()
	}
	end := time.Since(d.b.begun)
	j.failure, j.took, j.ended = failed, end-time.Duration(j.started.Load()), d.b.begun.Add(end)
	f.stops = failed != nil && d.x.stops(j)

	d.mu.Lock()
	ended = f.ended
	d.release(f.lease)
	if j.state.Load() == parked {
		d.mu.Unlock()
		d.x.unparked(j)
		return ended, failed
	}
	defer d.mu.Unlock()
	j.state.Store(finished)
	c := &d.chains[d.of[f.at]]
	c.inFlight--
	d.free++
	switch {
	case f.stops || d.stopped:
		d.leave(f.at)
	case !d.x.pipelined && c.waiting > 0:
		c.at = d.b.next[f.at]
		d.ready = append(d.ready, d.of[f.at])
	}
	d.finish(d.of[f.at])
	d.goOn()
	return ended, failed
}

// leave has a job and what is behind it in its chain wait for another time, as far as they have not begun.
func (d *dispatcher) leave(at int32) {
	for ; at != none; at = d.b.next[at] {
		if j := &d.b.jobs[at]; j.state.Load() == waiting && !j.behind {
			j.behind = true
			d.chains[d.of[at]].waiting--
		}
	}
}

// stop has nothing begin any more.
func (d *dispatcher) stop() {
	if d.stopped {
		return
	}
	d.stopped = true
	d.b.taken.Store(int64(len(d.b.heads)))
	for c, head := range d.b.heads {
		d.leave(head)
		d.finish(int32(c))
	}
}

// finish ends a chain of which nothing is in flight and nothing more begins. Of a pipelined one, it is known by now which answers came
// from behind one that has failed: these are no attempts.
func (d *dispatcher) finish(c int32) {
	if ch := &d.chains[c]; ch.ended || ch.inFlight > 0 || ch.waiting > 0 {
		return
	}
	head, next := d.b.heads[c], behindNone
	for at := head; at != none; at = d.b.next[at] {
		next = d.b.jobs[at].stand(next)
	}
	d.close(c)
	if d.x.ended != nil {
		d.x.ended(d.b, head)
	}
}

// close notes that a chain has ended.
func (d *dispatcher) close(c int32) {
	d.chains[c].ended = true
	if d.b.finish(); d.b.left.Load() == 0 && d.lease != nil {
		d.release(d.lease)
		d.lease = nil
	}
}

// stand has a job that failed wait if it may have failed for one before it, and returns the place of the next. A strict one was begun when
// those before it had been answered: what it failed for is its own.
func (j *job) stand(at place) place {
	stops := j.flight != nil && j.flight.stops
	if j.failure != nil && j.flight.d.x.pipelined && (at == behindWaiting || at == behindFailed && stops) {
		j.behind = true
	}
	switch {
	case j.behind || stops:
		return behindWaiting
	case j.failure != nil:
		return max(at, behindFailed)
	}
	return at
}

// park is batch.park. All of a chain that is in flight is parked at once: its answers are about each other.
func (d *dispatcher) park(limit time.Duration, most int, rest time.Duration) (found []*job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := int64(time.Since(d.b.begun))
	for i := range d.b.jobs {
		j, c := &d.b.jobs[i], d.of[i]
		if j.state.Load() != running || now-j.started.Load() < int64(limit) || len(found)+int(d.chains[c].inFlight) > most {
			continue
		}
		if rest > 0 && (d.x.pipelined || d.b.behindTakes(i, now) < rest) {
			continue
		}
		found = append(found, d.parkChain(c)...)
	}
	d.goOn()
	return found
}

// parkChain parks what is in flight of a chain, and returns it. If one of these holds up the goroutine that begins jobs, another one
// takes its place.
func (d *dispatcher) parkChain(c int32) (found []*job) {
	var before *job
	next := behindNone
	d.leave(d.b.heads[c])
	for at := d.b.heads[c]; at != none; at = d.b.next[at] {
		j := &d.b.jobs[at]
		switch j.state.Load() {
		case running:
			j.state.Store(parked)
			d.free++
			if j.flight.before, j.flight.place = before, next; before != nil {
				before.flight.after = j
			}
			before, found = j, append(found, j)
			if d.calling == at {
				d.hand++
				d.busy, d.calling = false, none
			}
		case admitting: // its goroutine finds that the chain has ended, when that may be recorded already
			j.state.Store(waiting)
			j.behind = true
		default:
			if before != nil && j.failure != nil {
				j.behind = true // what becomes of the one before it is not known
			}
			next = j.stand(next)
		}
	}
	d.close(c)
	return found
}

// lend returns the context of an attempt that begins now.
func (d *dispatcher) lend(ctx context.Context, now time.Duration) *lease {
	if l := d.lease; l == nil || l.Err() != nil || now > l.until {
		if l != nil {
			d.release(l)
		}
		d.lease = newLease(ctx, d.x.timeout, now)
	}
	d.lease.users++
	return d.lease
}

func newLease(ctx context.Context, timeout, now time.Duration) *lease {
	l := &lease{Context: ctx, cancel: func() {}, until: unlimited, users: 1}
	if timeout != unlimited {
		spare := timeout / deadlineSpare
		l.until = now + spare
		l.Context, l.cancel = context.WithTimeoutCause(ctx, timeout+spare, errAttemptTimeout)
	}
	return l
}

// release notes that an attempt does not use a context any more.
func (d *dispatcher) release(l *lease) {
	if l.users--; l.users == 0 {
		l.cancel()
	}
}
