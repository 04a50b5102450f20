package worker

import (
	"sync"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
)

// wakeups collects what a runner should look at, until it takes them. Nothing is lost between two takes, and however much
// there is, it wakes the runner once. Safe for concurrent use.
type wakeups struct {
	ready chan struct{} // has a token while there is something to take

	mu      sync.Mutex
	pending wakeup
}

type wakeup struct {
	ring     uint64        // lanes that may have something
	pulse    *engine.Pulse // the last heartbeat, to compare cursors with
	share    engine.Share  // of lanes, as of pulse
	topics   []string      // that the subscription has, if this worker reads with others
	probe    time.Time     // when an operator last asked to try whether an outage is over
	expelled bool          // the reader does not read for the runner any more
	reload   bool          // deliveries were retried, skipped or discarded
	unparked []*job        // parked jobs whose handlers have returned
	ended    []chain       // chains of deliveries that have ended
}

func newWakeups() *wakeups { return &wakeups{ready: make(chan struct{}, 1)} }

func (w *wakeups) add(change func(*wakeup)) {
	w.mu.Lock()
	change(&w.pending)
	w.mu.Unlock()
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// rings reports whether some lanes of a mask may have something.
func (w *wakeups) rings(mask uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pending.ring&mask != 0
}

func (w *wakeups) take() wakeup {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.ready:
	default:
	}
	taken := w.pending
	w.pending = wakeup{}
	return taken
}
