package worker

import (
	"context"

	"github.com/signalbox-go/signalbox/internal/engine"
)

// An ahead is a window that is being read while the one before is handled, so that the server and the handlers work at the same
// time. Until it is done, nothing else may use the member.
type ahead struct {
	window *engine.Window
	err    error
	done   chan struct{}
}

// readAhead begins to read the next window and, when that is due, to record what was handled before the current one.
func (r *runner) readAhead(ctx context.Context) {
	var owed engine.Settlement
	if r.settleIsDue() {
		owed = r.owed
		r.settled()
	}
	a := &ahead{done: make(chan struct{})}
	r.ahead = a
	limit := r.readLimit()
	r.handlers.Go(func() {
		defer close(a.done)
		if !owed.Empty() {
			a.err = r.write(ctx, owed)
		}
		if a.err == nil {
			a.window, a.err = r.member.Read(ctx, limit)
		}
	})
}

// awaitAhead waits until the next window has been read, if one is.
func (r *runner) awaitAhead() error {
	if r.ahead == nil {
		return nil
	}
	<-r.ahead.done
	return r.ahead.err
}

// putBack gives up what was read and is not handled yet: lanes change hands, or it was sized for better times. The runner reads for itself
// from there on.
func (r *runner) putBack() {
	if r.feed.leave() {
		r.again = true
	}
	if r.ahead != nil {
		r.member.PutBack(r.ahead.window)
		r.ahead = nil
	}
}
