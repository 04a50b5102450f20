package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/naming"
)

// A reader reads for all subscriptions of a session that stand at the end of the log: one statement finds what is new to any of them,
// so that it costs the same for one subscription and for forty. One that falls behind leaves, and reads for itself by lanes until it is
// there again.
type reader struct {
	conn  *shared
	feeds []*feed
	rang  chan struct{} // has a token when there may be something new
	found atomic.Int64  // how many events its last read found
}

// A feed is what the reader has for a runner: a window that grows until it is taken. While the runner has joined, the member's cursors are
// the reader's to move, under mu; else they are the runner's.
type feed struct {
	member *engine.Member
	wake   *wakeups
	reader *reader
	bytes  int // that the window may have

	mu     sync.Mutex
	joined bool
	times  int            // it has joined or left
	limit  int            // events that the window may have
	next   *engine.Window // read, and not taken; nil if there is none
}

// poke has the reader look for something new.
func (rd *reader) poke() {
	select {
	case rd.rang <- struct{}{}:
	default:
	}
}

// ring has the reader read if some runner relies on it that owns one of the lanes.
func (rd *reader) ring(lanes uint64) {
	for _, f := range rd.feeds {
		if f.wants(lanes) {
			rd.poke()
			return
		}
	}
}

// run reads whenever there may be something new, until drain is cancelled.
func (rd *reader) run(drain, ctx context.Context) error {
	for {
		select {
		case <-drain.Done():
			return nil
		case <-rd.rang: // before it reads: what rings from here on is read once more
		}
		if err := rd.read(ctx); err != nil {
			return err
		}
	}
}

// read reads once, for all that have joined.
func (rd *reader) read(ctx context.Context) error {
	var (
		feeds  []*feed
		times  []int
		stands []engine.Stand
	)
	for _, f := range rd.feeds {
		if stand, n, ok := f.stand(); ok {
			feeds, times, stands = append(feeds, f), append(times, n), append(stands, stand)
		}
	}
	if len(feeds) == 0 {
		return nil
	}
	var d *engine.Difference
	err := rd.conn.lend(ctx, func(conn naming.Conn) (err error) {
		d, err = engine.ReadDifference(ctx, conn, stands)
		return err
	})
	if err != nil {
		return fmt.Errorf("read for all subscriptions: %w", err)
	}
	rd.found.Store(int64(d.Len()))
	for i, f := range feeds {
		f.give(d, times[i])
	}
	return nil
}

// flows reports whether every runner relies on the reader, and its last read found something.
func (rd *reader) flows() bool {
	return rd.found.Load() > 0 && !slices.ContainsFunc(rd.feeds, func(f *feed) bool { return !f.relies() })
}

// stand returns where the member stands, unless it reads for itself. One that has as much as it may have is left out from here on.
func (f *feed) stand() (stand engine.Stand, times int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.joined {
		return stand, 0, false
	}
	if f.full() {
		f.expel()
		return stand, 0, false
	}
	stand, ok = f.member.Stand()
	return stand, f.times, ok
}

// full reports whether the runner has more to do than it should have read ahead.
func (f *feed) full() bool {
	return f.next != nil && (len(f.next.Events) >= f.limit || f.next.Bytes() >= f.bytes)
}

// give adds what the member has not seen to its window, unless the member has left in between. What is too much for a window is read in
// parts, by lanes.
func (f *feed) give(d *engine.Difference, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.joined || f.times != times:
		return
	case d.More():
		f.expel()
		return
	}
	w := f.member.Move(d)
	n, bytes := len(w.Events), 0
	if f.next != nil {
		n, bytes = n+len(f.next.Events), w.Bytes()+f.next.Bytes()
	}
	switch {
	case len(w.Events) > 0 && (n > f.limit || bytes > f.bytes):
		f.member.PutBack(w)
		f.expel()
		return
	case w.Empty():
		return
	case f.next == nil:
		f.next = w
	default:
		f.next.Join(w)
	}
	if len(w.Events) > 0 { // else the next heartbeat is soon enough
		f.wake.add(func(*wakeup) {})
	}
}

// expel has the runner read for itself.
func (f *feed) expel() {
	f.joined = false
	f.times++
	f.wake.add(func(w *wakeup) { w.expelled = true })
}

// join has the reader read for the runner, if its member stands at the end of the log.
func (f *feed) join(limit int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.member.Stand(); !ok {
		return false
	}
	f.joined, f.limit = true, limit
	f.times++
	f.reader.poke() // for what has been published since the read that brought it there
	return true
}

// leave gives the member's cursors back to the runner, and puts back what it has not taken. It reports whether it had joined, or there
// was something.
func (f *feed) leave() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.joined || f.next != nil
	if f.next != nil {
		f.member.PutBack(f.next)
		f.next = nil
	}
	f.joined = false
	f.times++
	return was
}

// take returns the window that was read, or nil, and whether the reader goes on reading for the runner.
func (f *feed) take(limit int) (w *engine.Window, joined bool) {
	if f == nil {
		return nil, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w, f.next, f.limit = f.next, nil, limit
	return w, f.joined
}

// relies reports whether the reader reads for the runner.
func (f *feed) relies() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.joined
}

// wants reports whether the reader reads for the runner, and one of the lanes is its own.
func (f *feed) wants(lanes uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.joined && f.member.Owns(lanes)
}

// holds reports whether there is a window to take.
func (f *feed) holds() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next != nil
}

// unread reports whether a read could find anything, given what a heartbeat saw. If the reader reads for the runner, it does so.
func (f *feed) unread(p engine.Pulse) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	unread := f.member.Unread(p)
	if unread && f.joined {
		f.reader.poke()
	}
	return unread && !f.joined
}

// decided returns up to where every window was decided that the runner has taken.
func (f *feed) decided() engine.Position {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.member.Decided(f.next)
}
