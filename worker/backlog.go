package worker

import (
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
)

// A backlog is what a runner remembers of the unfinished deliveries in its lanes, so that a window needs no look-up for
// them: which keys are blocked, and when there is something to try again.
type backlog struct {
	lines map[lineID]*line
	short map[lineID]*line  // those of held keys that have room for more
	lanes [engine.Lanes]int // by lane, how many of them are stuck
	next  time.Time         // no line is due before; zero when unknown
}

// lineID names the unfinished deliveries of a key, or those of a lane that have none.
type lineID struct {
	lane int16
	key  string
}

func lineOf(e *engine.Event) lineID { return lineID{e.Lane, e.Key} }

type line struct {
	count int       // its deliveries; a held key may have none
	stuck int       // those that failed or wait behind one that did; not those that somebody has had tried again
	due   time.Time // when the head, or the first without a key, may be tried
	fails bool      // whether the head has failed last time: it is claimed alone

	from       int64 // where the key is held from: later events are in the log only. 0 when it is not held
	old        bool  // whether some of those are old enough to be deleted
	room       int   // how many deliveries the line may have after a refill
	refilledAt time.Time
}

// A lane with more than fullAbove stuck deliveries is not read further until there are fewer than fullBelow: a key is held long before,
// so these are of many keys, or of none, and their number must have a bound: a million for a subscription. A bulk retry holds no
// lane: it is worked beside new events, however large.
const (
	fullAbove = 1_000_000 / engine.Lanes
	fullBelow = fullAbove / 2
)

func newBacklog() *backlog { return &backlog{lines: map[lineID]*line{}, short: map[lineID]*line{}} }

// load adds what the database knows.
func (b *backlog) load(lines []engine.Line) {
	for _, l := range lines {
		id := lineID{l.Lane, l.Key}
		b.add(id, l.Count, time.Now())
		b.stuck(id, b.lines[id].stuck-l.Again)
		if l.From != 0 {
			b.lines[id].old = l.Old
			b.holdKey(id, l.From)
		}
	}
}

// stuck sets how many of a line are.
func (b *backlog) stuck(id lineID, n int) {
	l := b.lines[id]
	n = min(n, l.count)
	b.lanes[id.lane] += n - l.stuck
	l.stuck = n
}

// atLeast notes that there are so many deliveries of a line. Somebody may have had some tried again, and nobody has told yet: counted
// for less, the line would be gone, and its key free, while some are left of it.
func (b *backlog) atLeast(id lineID, n int) {
	if l := b.lines[id]; l != nil {
		l.count = max(l.count, n)
	}
}

// failed notes that one of a line's deliveries was tried in vain.
func (b *backlog) failed(id lineID) {
	if l := b.lines[id]; l != nil {
		l.fails = true
		b.stuck(id, l.stuck+1)
	}
}

// blocked reports whether an event has to wait behind others of its key.
func (b *backlog) blocked(e *engine.Event) bool {
	return e.Key != "" && len(b.lines) > 0 && b.lines[lineID{e.Lane, e.Key}] != nil
}

// add remembers n more deliveries of a line. The line as a whole becomes due at the given time if it is new, or has no
// key and nothing that is due earlier.
func (b *backlog) add(id lineID, n int, due time.Time) {
	l := b.lines[id]
	if l == nil {
		l = &line{due: due}
		b.lines[id] = l
	} else if id.key == "" && due.Before(l.due) {
		l.due = due
	}
	l.count += n
	b.stuck(id, l.stuck+n)
	b.check(id, l)
	if l.due.Before(b.next) {
		b.next = l.due
	}
}

// done forgets n deliveries of a line.
func (b *backlog) done(id lineID, n int) {
	l := b.lines[id]
	if l == nil {
		return
	}
	l.fails = false
	l.count -= min(n, l.count)
	b.stuck(id, min(l.stuck, l.count)) // those that are tried again are older, and done first
	if l.count == 0 && l.from == 0 {
		delete(b.lines, id)
	}
	b.check(id, l)
}

// retry notes that a line may go on at the given time: the one behind a head that is done or, of events without a key, one
// among others.
func (b *backlog) retry(id lineID, due time.Time) {
	if l := b.lines[id]; l != nil && (id.key != "" || due.Before(l.due)) {
		b.wait(id, due)
	}
}

// wait sets when a line is due.
func (b *backlog) wait(id lineID, due time.Time) {
	if l := b.lines[id]; l != nil {
		l.due = due
		if due.Before(b.next) {
			b.next = due
		}
	}
}

// drop forgets a line of which the database knows nothing.
func (b *backlog) drop(id lineID) {
	if l := b.lines[id]; l != nil {
		b.done(id, l.count)
	}
}

// forget drops all lines of lanes that were released.
func (b *backlog) forget(lanes []int16) {
	gone := map[int16]bool{}
	for _, lane := range lanes {
		gone[lane] = true
	}
	for id := range b.lines {
		if gone[id.lane] {
			b.lines[id].from = 0
			b.drop(id)
			delete(b.lines, id)
		}
	}
}

// dueLines returns up to limit lines that are due now.
func (b *backlog) dueLines(now time.Time, limit int) []engine.Line {
	if len(b.lines) == 0 || now.Before(b.next) {
		return nil
	}
	var due []engine.Line
	next := now.Add(time.Hour)
	for id, l := range b.lines {
		if l.count == 0 {
			continue // held, and soon refilled
		}
		if !l.due.After(now) && len(due) < limit {
			due = append(due, engine.Line{Lane: id.lane, Key: id.key, Alone: l.fails && id.key != ""})
			continue
		}
		if l.due.Before(next) {
			next = l.due
		}
	}
	b.next = next
	return due
}

// nextDue returns when to look again, or false when there is nothing to wait for.
func (b *backlog) nextDue() (time.Time, bool) { return b.next, len(b.lines) > 0 }

// full sets which lanes are not read further, and reports whether some may be again.
func (b *backlog) full(lanes map[int16]bool) bool {
	freed := false
	for lane, n := range b.lanes {
		switch {
		case n > fullAbove:
			lanes[int16(lane)] = true
		case n < fullBelow && lanes[int16(lane)]:
			delete(lanes, int16(lane))
			freed = true
		}
	}
	return freed
}
