package worker

import (
	"context"
	"log/slog"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
)

const (
	// settleEvery is how long progress may stay unrecorded while events keep coming. One row then covers many windows.
	settleEvery = 25 * time.Millisecond
	// settleIdle is the same for progress that passed nothing but events of other topics: a crash would only look at them
	// again.
	settleIdle = time.Second
	// readPatience is how long a runner waits until another one has read.
	readPatience = 50 * time.Millisecond
	// reloadEvery is how often the backlog is checked against the database, in case a notification was missed, and reloadPart which part of all
	// time that should take at most: with hundreds of thousands of lines, a second in which nothing else happens. But it is done every reloadMost, and
	// each time behind a proxy, where there are no notifications.
	reloadEvery, reloadMost, reloadPart = time.Minute, 5 * time.Minute, 200
	// reloadRest is for how many times the duration of the last check it goes on with what it knows, if something is due, although
	// others have changed more, as a replay does with each chunk.
	reloadRest = 10
	// settleTimeout bounds a settle, which goes on when everything else is told to stop.
	settleTimeout = 10 * time.Second
)

// A runner serves one subscription, from the lanes that its member owns: read, handle, settle. It is one goroutine, and
// those of the handlers.
type runner struct {
	log     *slog.Logger
	worker  string
	cfg     Config
	sub     registration
	member  *engine.Member
	pool    *txPool   // where a transactional handler's connections come from,
	own     *borrowed // or its only one, if it is the member's
	wake    *wakeups
	backlog *backlog

	handlers   sync.WaitGroup
	parked     map[int64]*job   // by event id
	unreturned atomic.Int64     // how many of these have not returned
	beside     []*batch         // deliveries that run beside the windows
	lookedAt   time.Time        // at those
	window     *engine.Window   // the one of this turn
	answered   map[string]int64 // of a pipelined one in which something failed, the last event of each key that was handled or is in flight
	attempts   []Attempt        // that have ended, and of which the hook has yet to be told

	stopping <-chan struct{} // is closed when the session is about to end
	reading  chan struct{}   // of all runners of the worker: has a token while one of them looks for what is new
	atEnd    bool            // whether the last read found all there was

	unknown      []string      // the subscription's topics, if this worker does not know all of them
	unserved     time.Time     // since when there is no worker that does
	fair         int           // lanes that this worker should own
	limit        int           // how many events are handled in a window's time
	joins        joinPace      // of what joins lines that wait
	trusted      int           // suspects to begin at once
	retries      againPace     // of what failed, where it is tried in turns
	pace         time.Duration // what an event has taken lately
	usual        time.Duration // what answers of HandleAsync usually take
	begun        time.Time     // when this turn's transactional handlers were,
	waitedFrom   time.Time     // and the first of those whose events waited
	probing      bool          // whether the breaker was open by then
	waited       fitting       // how many of those, of a line, are claimed for a turn
	keys         keyTimes      // what the keys of a window in a transaction have taken
	looks        int           // events that the next refill looks at
	refilledLane int16         // the last one that was
	claims       int           // deliveries that the next claim takes, where that is not to take long; 0 for as many as any
	claimsNext   bool          // whether this turn refilled in place of claiming: the next one claims
	newAt        time.Time     // when something new was last begun
	windowTook   time.Duration // and how long a window took, when last one was handled without deliveries in it
	putOffAll    bool          // whether all of the last window with events was put off

	share int     // bytes that may be read and not handled
	feed  *feed   // what the reader has read; nil behind a proxy
	again bool    // something was put back: read for itself
	lanes []int16 // that the member owns
	ahead *ahead  // a window that is read while the one before is handled

	// What is not recorded yet: the last handled window, and what became of deliveries.
	owed      engine.Settlement
	settleAt  time.Time // when to record it at the latest
	settledAt time.Time
	settler   *settler // what records it together with that of other subscriptions; nil behind a proxy
	offered   *offer   // of the settler's, while the runner sleeps
	alone     bool     // that has failed: the runner records it for itself

	breaker     breaker
	outage      atomic.Bool             // whether the breaker is open, for those beside the runner
	away        atomic.Pointer[failure] // why what the handler calls is away, until the breaker opens for it
	topics      topicBreakers           // those of single topics
	recorded    []string                // what the member's row says of them: see openFor
	probedAt    time.Time               // when an operator last asked for a probe
	pacer       pacer
	pausedUntil atomic.Int64 // in nanoseconds: when something may begin again
	pauseTold   atomic.Int64 // and when a line about a pause was last written

	notes         notebook
	warned, erred digest // lines about attempts that failed, and about dead letters

	stale    bool // somebody has changed deliveries since the backlog was loaded
	loadedAt time.Time
	loadTook time.Duration
}

// run serves until drain is cancelled, then settles and gives its lanes back. The statements and handlers get ctx.
// An error leaves things as a crash would: whatever is not settled is handled again, by whoever owns the lanes next.
func (r *runner) run(drain, ctx context.Context) error {
	defer r.flushFailures(true)
	if err := r.rejoin(ctx); err != nil {
		return err
	}
	read := false
	for {
		r.takeBack()
		r.flushFailures(false)
		if drain.Err() != nil {
			return r.drain(ctx)
		}
		w := r.wake.take()
		r.unpark(ctx, w.unparked)
		r.recordEnded(ctx, w.ended)
		r.lookBeside(ctx)
		if len(r.member.Full) > 0 { // what has ended beside the windows may have been the last of a lane
			read = r.noteFull() || read
		}
		if w.pulse != nil {
			r.fair = w.share.Fair
			r.heedProbe(w.probe)
			if err := r.heedTopics(ctx, w.topics, w.share); err != nil {
				return err
			}
		}
		changed, err := r.rebalance(ctx, w.share.Free > 0)
		if err != nil {
			return err
		}
		r.stale = r.stale || w.reload
		filled := false
		if !r.claimsNext {
			if filled, err = r.refill(ctx); err != nil {
				return err
			}
		}
		read = read || changed || r.again || w.expelled || w.ring&r.mask() != 0 || w.pulse != nil && r.unread(*w.pulse) || r.feed.holds()
		r.again = false
		// What is new waits for a refill or for a claim, not for both, where it waits for little else.
		probes, due := r.dueProbes(), []engine.Line(nil)
		if r.claimsNext = filled && read && r.isCurrent() && r.sparesNew(); !r.claimsNext {
			due = r.dueLines(read)
		}
		if r.reloadIsDue(len(probes)+len(due) > 0 || r.backlog.isDue(time.Now())) {
			freed, err := r.reload(ctx)
			if err != nil {
				return err
			}
			read = read || freed
			due = r.dueLines(read)
			probes = slices.DeleteFunc(probes, func(l engine.Line) bool { return r.backlog.apart[idOf(l)] == nil }) // it is gone, or due like others
		}
		due = append(probes, due...) // a claim of few leaves out the last

		if err := r.judge(ctx); err != nil {
			return err
		}
		reads := read && r.mayRead()
		if !reads && len(due) == 0 {
			if err := r.settleDue(ctx); err != nil {
				return err
			}
			r.offer()
			r.sleep(drain, read)
			continue
		}
		more, err := r.turn(ctx, reads, due)
		if err != nil {
			return err
		}
		read = more || read && !reads
	}
}

// dueProbes returns lines that wait for topics, of which something is to be tried now.
func (r *runner) dueProbes() (due []engine.Line) {
	if len(r.topics.opened) == 0 || !r.mayClaim() || !r.mayTry() {
		return nil
	}
	now := time.Now()
	for _, t := range r.topics.opened {
		due = append(due, t.probe(r.backlog, now)...)
	}
	return due
}

// dueLines returns lines of which something may be claimed now, beside what is to be read or not.
func (r *runner) dueLines(read bool) []engine.Line {
	if !r.mayClaim() || !r.mayTry() {
		return nil
	}
	most := max(dueLines, r.dueTogether())
	again := most
	if r.sub.many != nil && !r.breaker.open() {
		again = r.retries.lines(most, read && r.mayRead())
	}
	return r.backlog.dueLines(time.Now(), most, again, r.sub.tx)
}

// mask has a bit for each lane that the member owns.
func (r *runner) mask() uint64 {
	var mask uint64
	for _, lane := range r.lanes {
		mask |= 1 << lane
	}
	return mask
}

// unread reports whether the runner should read, given what a heartbeat saw.
func (r *runner) unread(p engine.Pulse) bool {
	if r.feed != nil {
		return r.feed.unread(p)
	}
	return r.member.Unread(p)
}

// rebalance claims or releases lanes to own its fair share, and reports whether it got new ones.
func (r *runner) rebalance(ctx context.Context, free bool) (bool, error) {
	owned := bits.OnesCount64(r.mask())
	switch {
	case owned > r.fair:
		r.putBack()
		r.endBeside(ctx)
		if err := r.settle(ctx); err != nil {
			return false, err
		}
		var released []int16
		err := r.patiently(ctx, func(ctx context.Context) (err error) {
			released, err = r.member.Release(ctx, owned-r.fair)
			return err
		})
		if err != nil {
			return false, err
		}
		r.lanes = r.member.Lanes()
		r.backlog.forget(released)
		r.pacer.share(owned - len(released))
		r.log.Info("released lanes to others", "released", len(released), "owned", r.fair)

	case owned < r.fair && free:
		// What was read before must not be settled after: it does not cover the new lanes.
		r.putBack()
		if err := r.settle(ctx); err != nil {
			return false, err
		}
		var claimed []int16
		err := r.patiently(ctx, func(ctx context.Context) (err error) {
			claimed, err = r.member.Claim(ctx, r.fair)
			return err
		})
		if err != nil || len(claimed) == 0 {
			return false, err
		}
		r.lanes = r.member.Lanes()
		r.pacer.share(owned + len(claimed))
		if err := r.member.TryForOthers(ctx, claimed); err != nil {
			return false, err
		}
		lines, err := r.member.Lines(ctx, claimed, r.cfg.Retention, r.topics.names()...)
		if err != nil {
			return false, err
		}
		r.backlog.load(lines)
		r.noteFull()
		r.trusted = 1
		r.log.Info("claimed lanes", "claimed", len(claimed), "owned", owned+len(claimed), "suspect", r.member.Suspect)
		return true, nil
	}
	return false, nil
}

// reloadIsDue reports whether to look at the deliveries anew, busy with those that it knows or not.
func (r *runner) reloadIsDue(busy bool) bool {
	rest := reloadEvery
	if r.feed != nil {
		rest = min(reloadMost, max(rest, reloadPart*r.loadTook))
	}
	if r.stale {
		if rest = min(reloadEvery, r.loadTook); busy {
			rest = min(reloadEvery, reloadRest*r.loadTook)
		}
	}
	return time.Since(r.loadedAt) >= rest
}

// reload looks at the deliveries in its lanes anew, because somebody else has changed some: retried dead letters, or
// discarded what a key waits for. It reports whether lanes that were full may be read again.
func (r *runner) reload(ctx context.Context) (bool, error) {
	if err := r.settle(ctx); err != nil {
		return false, err
	}
	start := time.Now()
	lines, err := r.member.Lines(ctx, r.lanes, r.cfg.Retention, r.topics.names()...)
	if err != nil {
		return false, err
	}
	r.stale, r.loadedAt, r.loadTook = false, time.Now(), time.Since(start)
	before := r.backlog
	r.backlog = newBacklog(r.topics.names()...)
	r.backlog.load(lines)
	r.backlog.failedBefore(before)
	for _, j := range r.parked {
		r.occupy(j)
	}
	for j := range r.openJobs() {
		r.occupy(j)
	}
	return r.noteFull(), nil
}

// noteFull sees to it that lanes with very many stuck deliveries are not read further, and reports whether some may be read again.
func (r *runner) noteFull() bool {
	before := len(r.member.Full)
	freed := r.backlog.full(r.member.Full, r.sub.MaxUnfinished)
	if n := len(r.member.Full); n > before {
		r.log.Error("so many deliveries are unfinished that lanes are not read further, until half of these are done: see \"outbox deliveries groups\" for what fails",
			"lanes", n, "max_unfinished", r.sub.MaxUnfinished)
	}
	r.notes.full.Store(int64(len(r.member.Full)))
	return freed
}

// occupy has the line of a job wait until that has ended, whatever the database says of it: what runs may have been discarded. So it
// counts once more: a line that is taken for longer than it is costs a claim, one that is taken for shorter would be forgotten.
func (r *runner) occupy(j *job) {
	id := lineOf(j.event)
	if id.key == "" || r.mask()&(1<<id.lane) == 0 {
		return
	}
	r.backlog.add(id, 1, time.Now(), j.event.Topic)
	r.backlog.wait(id, time.Now().Add(never))
}

// sleep waits for something to do. It follows a read that found all there was and that began after the last wake-up that
// was taken, so nothing is slept over. With read, there is something to read, and that has to wait for its time.
func (r *runner) sleep(drain context.Context, read bool) {
	wait := time.Hour
	tries := r.mayClaim() && r.mayTry()
	if tries {
		if next, ok := r.backlog.nextDue(); ok {
			wait = time.Until(next)
		}
		wait = min(wait, r.topics.rest(r.backlog, time.Now()))
	}
	if r.breaker.open() {
		for _, p := range []*probe{&r.breaker.fresh, &r.breaker.again} {
			if after := time.Until(p.next); after > 0 {
				wait = min(wait, after)
			}
		}
	}
	if r.pacer.room(1) == 0 {
		wait = min(wait, r.pacer.wait())
	}
	if until := r.pausedUntil.Load(); r.paused() {
		wait = max(time.Millisecond, min(time.Hour, time.Until(time.Unix(0, until))))
	}
	if len(r.beside) > 0 {
		wait = min(wait, lookEvery)
	}
	if len(r.backlog.short) > 0 {
		wait = min(wait, time.Millisecond) // a refill leaves what it has no time for
	}
	if !r.owed.Empty() {
		wait = min(wait, time.Until(r.settleAt))
	}
	if next, ok := r.nextFailures(); ok {
		wait = min(wait, time.Until(next))
	}
	if r.stale {
		wait = min(wait, time.Until(r.loadedAt.Add(r.loadTook)))
	}
	if read && r.mayRead() || !tries && r.mayClaim() && r.mayTry() {
		return // the time of it came while it was asked for
	}
	timer := time.NewTimer(max(0, wait))
	defer timer.Stop()
	select {
	case <-drain.Done():
	case <-r.wake.ready: // the next turn takes what there is
	case <-timer.C:
	}
}

// read returns the next window: what the reader has read, or what it reads for itself by lanes. more says that there is something to read
// behind what the reader had.
func (r *runner) read(ctx context.Context) (window *engine.Window, more bool, err error) {
	window, joined := r.feed.take(r.limit)
	switch {
	case window != nil:
		return window, !joined, nil
	case joined:
		return &engine.Window{}, false, nil
	}
	if window, err = r.readLanes(ctx); err != nil || r.mayJoin(window) && r.feed.join(r.limit) {
		return window, false, err
	}
	return window, window.Old(), nil // what is old began before the last wake-up that was taken: only another read may end in sleep
}

// pagesPart is which part of what may be read ahead is kept for subscriptions that come to it later.
const pagesPart = 4

// windowBytes is how many bytes a window may have: there are two, one of which is handled.
func (r *runner) windowBytes() int { return r.share / 2 }

// mayJoin reports whether the reader may read for the runner from the end of a window on: not where it has to be told how much.
func (r *runner) mayJoin(w *engine.Window) bool {
	return r.feed != nil && !w.More() && r.pacer.Limiter == nil && !r.breaker.open() && !r.paused()
}

// readLanes reads the next window by lanes. Behind a proxy, where they have connections of their own, runners at the end of the log take
// turns: an event wakes them all, and ten reads at once would each take ten times as long, and at high rates leave publishers no
// processor. One that waits finds more when it is its turn.
func (r *runner) readLanes(ctx context.Context) (*engine.Window, error) {
	if r.atEnd {
		select {
		case r.reading <- struct{}{}:
			defer func() { <-r.reading }()
		case <-time.After(readPatience): // whoever reads hangs: that is no reason to wait with it
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	limit := r.pacer.fits(r.readLimit())
	if r.breaker.open() {
		limit = min(limit, r.breaker.fresh.size)
	}
	window, err := r.member.Read(ctx, limit)
	r.atEnd = err == nil && !window.More()
	return window, err
}

// owesWindow notes that a window is to be settled, once its events are handled.
func (r *runner) owesWindow(w *engine.Window) {
	at := r.settledAt.Add(settleIdle)
	if len(w.Events) > 0 {
		at = r.settledAt.Add(settleEvery)
		if r.settler != nil {
			at = latest(at, time.Unix(0, r.settler.last.Load()).Add(settleEvery))
		}
	}
	r.owes(at)
	r.owed.Window = w
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// owes notes that what is not recorded has to be settled at the given time at the latest. Call it before adding to owed.
func (r *runner) owes(at time.Time) {
	if r.owed.Empty() || at.Before(r.settleAt) {
		r.settleAt = at
	}
}

// owesRow notes that rows of deliveries are to be settled: with the progress that is recorded anyway, or at once if none was for a while. A
// settle of its own for each window that has some would keep new events waiting.
func (r *runner) owesRow(now time.Time) { r.owes(latest(now, r.settledAt.Add(settleEvery))) }

// settle records what is owed. That is worth waiting for: it goes on for a while after ctx is cancelled.
func (r *runner) settle(ctx context.Context) error {
	if r.owed.Empty() {
		return nil
	}
	if err := r.write(ctx, r.owed); err != nil {
		return err
	}
	r.settled()
	return nil
}

func (r *runner) write(ctx context.Context, s engine.Settlement) error {
	return r.patiently(context.WithoutCancel(ctx), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, settleTimeout)
		defer cancel()
		return r.member.Settle(ctx, s)
	})
}

func (r *runner) settleIsDue() bool { return !r.owed.Empty() && !time.Now().Before(r.settleAt) }

// settled notes that nothing is owed any more.
func (r *runner) settled() { r.owed, r.settledAt = engine.Settlement{}, time.Now() }

// drain records what is handled, gives all lanes back, and waits for the handlers of parked events. Those that have not
// finished when ctx ends are handed to another worker.
func (r *runner) drain(ctx context.Context) error {
	r.putBack()
	r.endBeside(ctx)
	if err := r.settle(ctx); err != nil {
		return err
	}
	if err := r.releaseAll(ctx); err != nil {
		return err
	}
	abandon := ctx.Done()
	var given <-chan time.Time
	for {
		r.unpark(ctx, r.wake.take().unparked) // first of all what the last sleep ended for
		if err := r.settle(ctx); err != nil || len(r.parked) == 0 {
			return err
		}
		select {
		case <-r.wake.ready:
		case <-abandon: // they have been told: a moment to return
			abandon, given = nil, time.After(abandonAfter)
		case <-given:
			r.abandon()
			return r.settle(ctx)
		}
	}
}

func (r *runner) releaseAll(ctx context.Context) error {
	return r.patiently(context.WithoutCancel(ctx), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, settleTimeout)
		defer cancel()
		_, err := r.member.Release(ctx, engine.Lanes)
		r.lanes = r.member.Lanes()
		return err
	})
}
