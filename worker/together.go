package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
)

// A settler records the progress of all subscriptions of a session in one transaction. A runner that sleeps offers what it owes. The one
// whose progress is due first records it together with all that is offered: so a worker settles as often with forty subscriptions
// as with one.
type settler struct {
	offers []*offer
	last   atomic.Int64 // when the last one began, in nanoseconds
}

// An offer is what a runner owes while it sleeps: progress of windows whose events are all handled, and nothing about deliveries. A
// runner that handles something offers nothing. So nothing else records progress while a transactional handler is under way.
type offer struct {
	mu      sync.Mutex
	owed    *engine.Progress
	writing chan struct{} // is closed when it is recorded, or was not; nil while no runner does that
	settled bool          // it was recorded
	alone   bool          // it was not: its runner has to record it
	wake    *wakeups
}

// offer has others record what the runner owes, if it is progress alone.
func (r *runner) offer() {
	if r.settler == nil || r.alone || r.owed.Empty() || !r.owed.OnlyProgress() || r.member.Suspect {
		return
	}
	r.offered.mu.Lock()
	defer r.offered.mu.Unlock()
	r.offered.owed = &engine.Progress{Member: r.member, Settlement: r.owed}
}

// takeBack ends the offer. It waits for another runner that records it right now.
func (r *runner) takeBack() {
	if r.settler == nil {
		return
	}
	o := r.offered
	o.mu.Lock()
	for o.writing != nil {
		written := o.writing
		o.mu.Unlock()
		<-written
		o.mu.Lock()
	}
	defer o.mu.Unlock()
	if o.settled {
		r.settled()
	}
	r.alone = r.alone || o.alone
	o.owed, o.settled, o.alone = nil, false, false
}

// settleDue records what is due, together with what others offer.
func (r *runner) settleDue(ctx context.Context) error {
	if !r.settleIsDue() {
		return nil
	}
	if r.settler == nil || r.alone || !r.owed.OnlyProgress() || r.member.Suspect {
		r.alone = false
		return r.settle(ctx)
	}
	list := []engine.Progress{{Member: r.member, Settlement: r.owed}}
	var others []*offer
	for _, o := range r.settler.offers {
		if p := o.begin(); p != nil {
			list, others = append(list, *p), append(others, o)
		}
	}
	r.settler.last.Store(time.Now().UnixNano())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	err := engine.SettleTogether(ctx, list)
	for _, o := range others {
		o.end(err == nil)
	}
	switch {
	case errors.Is(err, engine.ErrBusy):
		return r.settle(ctx)
	case err != nil:
		return err
	}
	r.settled()
	return nil
}

// begin returns what is offered, for the caller to record.
func (o *offer) begin() *engine.Progress {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.owed == nil || o.writing != nil || o.settled || o.alone {
		return nil
	}
	o.writing = make(chan struct{})
	return o.owed
}

// end says whether it was recorded.
func (o *offer) end(settled bool) {
	o.mu.Lock()
	close(o.writing)
	o.writing, o.settled, o.alone = nil, settled, !settled
	o.mu.Unlock()
	if !settled {
		o.wake.add(func(*wakeup) {})
	}
}
