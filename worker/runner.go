package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"time"

	"github.com/signalbox-go/signalbox/outbox"
)

const (
	// settleEvery is how long progress may stay unrecorded while events keep coming. One row then covers many windows.
	settleEvery = 25 * time.Millisecond
	// settleIdle is the same for progress that passed nothing but events of other topics: a crash would only look at them
	// again.
	settleIdle = time.Second
	// windowTime is how long a window should take to handle. A crash repeats about that much.
	windowTime = time.Second
	// dueLimit is how many lines, and how many deliveries without a key in a lane, are claimed at once.
	dueLimit = 256
)

// A runner serves one subscription, from the lanes that its member owns: read, handle, settle. It is one goroutine.
type runner struct {
	name    string
	log     *slog.Logger
	worker  string
	cfg     Config
	sub     registration
	member  *outbox.Member
	wake    *wakeups
	backlog *backlog

	fair      int            // lanes that this worker should own
	limit     int            // events of the next window
	unsettled *outbox.Window // the last handled one, when it is not recorded yet
	settleAt  time.Time      // when to record it at the latest
	settledAt time.Time
}

// run serves until drain is cancelled, then settles and gives its lanes back. The statements and handlers get ctx.
// An error leaves things as a crash would: whatever is not settled is handled again, by whoever owns the lanes next.
func (r *runner) run(drain, ctx context.Context) error {
	read := false
	for {
		if drain.Err() != nil {
			return r.drain(ctx)
		}
		w := r.wake.take()
		if w.fair > 0 {
			r.fair = w.fair
		}
		changed, err := r.rebalance(ctx, w.free > 0)
		if err != nil {
			return err
		}
		read = read || changed || w.ring&r.mask() != 0 || w.pulse != nil && r.member.Unread(*w.pulse)

		due := r.backlog.dueLines(time.Now(), dueLimit)
		if !read && len(due) == 0 {
			if r.unsettled != nil && !time.Now().Before(r.settleAt) {
				if err := r.settle(ctx, outbox.Settlement{}); err != nil {
					return err
				}
			}
			r.sleep(drain)
			continue
		}
		if read, err = r.turn(ctx, read, due); err != nil {
			return err
		}
	}
}

// mask has a bit for each lane that the member owns.
func (r *runner) mask() uint64 {
	var mask uint64
	for _, lane := range r.member.Lanes() {
		mask |= 1 << lane
	}
	return mask
}

// rebalance claims or releases lanes to own its fair share, and reports whether it got new ones.
func (r *runner) rebalance(ctx context.Context, free bool) (bool, error) {
	owned := bits.OnesCount64(r.mask())
	switch {
	case owned > r.fair:
		if err := r.settle(ctx, outbox.Settlement{}); err != nil {
			return false, err
		}
		released, err := r.member.Release(ctx, owned-r.fair)
		if err != nil {
			return false, err
		}
		r.backlog.forget(released)
		r.log.Info("released lanes to others", "released", len(released), "owned", r.fair)

	case owned < r.fair && free:
		// What was read before must not be settled after: it does not cover the new lanes.
		if err := r.settle(ctx, outbox.Settlement{}); err != nil {
			return false, err
		}
		claimed, err := r.member.Claim(ctx, r.fair)
		if err != nil || len(claimed) == 0 {
			return false, err
		}
		lines, err := r.member.Lines(ctx, claimed)
		if err != nil {
			return false, err
		}
		for _, l := range lines {
			r.backlog.add(lineID{l.Lane, l.Key}, l.Count, time.Now())
		}
		r.backlog.hold(r.member.Held)
		r.log.Info("claimed lanes", "claimed", len(claimed), "owned", owned+len(claimed))
		return true, nil
	}
	return false, nil
}

// sleep waits for something to do. It follows a read that found all there was and that began after the last wake-up that
// was taken, so nothing is slept over.
func (r *runner) sleep(drain context.Context) {
	wait := time.Hour
	if next, any := r.backlog.nextDue(); any {
		wait = time.Until(next)
	}
	if r.unsettled != nil {
		wait = min(wait, time.Until(r.settleAt))
	}
	timer := time.NewTimer(max(0, wait))
	defer timer.Stop()
	select {
	case <-drain.Done():
	case <-r.wake.ready:
	case <-timer.C:
	}
}

// turn handles one window and the deliveries that are due beside it. It reports whether there may be more to read.
func (r *runner) turn(ctx context.Context, read bool, due []outbox.Line) (more bool, err error) {
	deliveries, err := r.claimDue(ctx, due)
	if err != nil {
		return false, err
	}
	window := &outbox.Window{}
	if read {
		if window, err = r.member.Read(ctx, r.limit); err != nil {
			return false, err
		}
	}

	// What is behind an unfinished one of its key goes there without an attempt.
	jobs := make([]job, 0, len(deliveries)+len(window.Events))
	for _, d := range deliveries {
		jobs = append(jobs, job{event: d.Event, attempt: max(1, d.Attempt)})
	}
	var s outbox.Settlement
	for _, e := range window.Events {
		if r.backlog.blocked(&e) {
			s.Unfinished = append(s.Unfinished, outbox.Unfinished{Event: e})
			r.backlog.add(lineID{e.Lane(), e.Key}, 1, time.Now())
		} else {
			jobs = append(jobs, job{event: e, attempt: 1})
		}
	}
	if len(jobs) > 0 {
		if err := r.handle(ctx, jobs); err != nil {
			return false, err
		}
	}
	r.sortOut(ctx, &s, deliveries, jobs)
	if read && !window.Empty() {
		r.handled(window, len(window.Events) > 0)
	}
	now := time.Now()
	if len(deliveries) > 0 || len(s.Unfinished) > 0 || r.unsettled != nil && !now.Before(r.settleAt) {
		if err := r.settle(ctx, s); err != nil {
			return false, err
		}
	}
	return r.backlog.hold(r.member.Held) || window.More(), nil
}

// handle runs the handlers and adapts the size of windows to their speed.
func (r *runner) handle(ctx context.Context, jobs []job) error {
	start := time.Now()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		runJobs(ctx, jobs, r.sub.handler, r.cfg.Concurrency, r.sub.Timeout)
	}()
	select {
	case <-finished:
	case <-ctx.Done():
		// Handlers have been told. Those that do not listen are left behind, and nothing of the window is settled.
		select {
		case <-finished:
		case <-time.After(abandonAfter):
			return fmt.Errorf("handlers ignore their context: %w", context.Cause(ctx))
		}
	}
	took := max(time.Since(start), time.Microsecond)
	fitting := float64(len(jobs)) * float64(windowTime) / float64(took)
	r.limit = int(min(float64(r.cfg.WindowSize), max(float64(r.cfg.Concurrency), fitting)))
	return nil
}

// abandonAfter is how long handlers whose context was cancelled may take to return.
const abandonAfter = 2 * time.Second

// sortOut says what became of jobs: those of deliveries come first.
func (r *runner) sortOut(ctx context.Context, s *outbox.Settlement, deliveries []outbox.Delivery, jobs []job) {
	now := time.Now()
	for i := range jobs {
		j := &jobs[i]
		id := lineID{j.event.Lane(), j.event.Key}
		isDelivery := i < len(deliveries)
		if j.err == nil {
			if isDelivery {
				s.Delivered = append(s.Delivered, j.event.ID)
				r.backlog.done(id, 1)
				r.backlog.retry(id, now)
			}
			continue
		}
		u := outbox.Unfinished{Event: j.event}
		if isDelivery {
			u.Attempt = deliveries[i].Attempt
		}
		switch {
		case errors.Is(j.err, errBehind):
		case ctx.Err() != nil:
			// It was told to stop: not its fault, and not an attempt.
			u.Attempt = j.attempt - 1
		default:
			u.Attempt = j.attempt
			u.Delay = r.sub.Backoff(j.attempt)
			u.Failure = &outbox.Failure{Attempt: j.attempt, At: now, Worker: r.worker, Error: shorten(j.err.Error())}
			r.log.Warn("event failed and will be tried again", "event", j.event.ID, "topic", j.event.Topic, "attempt", j.attempt,
				"retry_in", u.Delay.Round(time.Millisecond), "error", firstLine(j.err.Error()))
		}
		if isDelivery {
			s.Failed = append(s.Failed, u)
		} else {
			s.Unfinished = append(s.Unfinished, u)
			r.backlog.add(id, 1, now.Add(u.Delay))
		}
		if !errors.Is(j.err, errBehind) {
			r.backlog.retry(id, now.Add(u.Delay))
		}
	}
}

// claimDue claims what may run now of the lines that are due, and remembers when to look at the others again.
func (r *runner) claimDue(ctx context.Context, lines []outbox.Line) ([]outbox.Delivery, error) {
	if len(lines) == 0 {
		return nil, nil
	}
	deliveries, waiting, err := r.member.ClaimDue(ctx, lines, dueLimit)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	known := map[lineID]bool{}
	for _, l := range waiting {
		id := lineID{l.Lane, l.Key}
		known[id] = true
		r.backlog.wait(id, now.Add(max(l.Due, time.Millisecond)))
	}
	for _, d := range deliveries {
		known[lineID{d.Event.Lane(), d.Event.Key}] = true
	}
	for _, l := range lines {
		if id := (lineID{l.Lane, l.Key}); !known[id] {
			r.backlog.drop(id)
		}
	}
	return deliveries, nil
}

// handled notes that a window is handled and waits to be settled.
func (r *runner) handled(w *outbox.Window, events bool) {
	every := settleIdle
	if events {
		every = settleEvery
	}
	at := r.settledAt.Add(every)
	if r.unsettled == nil || at.Before(r.settleAt) {
		r.settleAt = at
	}
	r.unsettled = w
}

// settle records s together with the windows that are handled and not recorded yet. A finished settle is worth waiting for:
// it goes on for a while when ctx is cancelled.
func (r *runner) settle(ctx context.Context, s outbox.Settlement) error {
	s.Window = r.unsettled
	if s.Window == nil && len(s.Delivered) == 0 && len(s.Failed) == 0 && len(s.Unfinished) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if err := r.member.Settle(ctx, s); err != nil {
		return err
	}
	r.unsettled, r.settledAt = nil, time.Now()
	return nil
}

const settleTimeout = 10 * time.Second

// drain records what is handled and gives all lanes back.
func (r *runner) drain(ctx context.Context) error {
	if err := r.settle(ctx, outbox.Settlement{}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	_, err := r.member.Release(ctx, outbox.Lanes)
	return err
}

// maxErrorBytes is what is kept of an error's text, stack included.
const maxErrorBytes = 8 << 10
