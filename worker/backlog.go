package worker

import (
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
)

// A backlog is what a runner remembers of the unfinished deliveries in its lanes, so that a window needs no look-up for
// them: which keys are blocked, and when there is something to try again.
type backlog struct {
	lines map[lineID]*line
	apart map[lineID]*line               // those that begin with a topic that the breaker is open for: not among lines, since they may be many
	waits map[string]map[lineID]*line    // the same by topic: of each that it is open for
	short map[lineID]*line               // those of held keys that need more
	roomy [engine.Lanes]map[lineID]*line // by lane, those of held keys that have room for more, short or not
	lanes [engine.Lanes]int              // by lane, how many of them are stuck
	next  time.Time                      // none of lines is due before; zero when unknown

	crowded bool // when last asked, more lines were due than could be taken, and not for having failed
}

// lineID names the unfinished deliveries of a key, or those of a lane and a topic that have none.
type lineID struct {
	lane  int16
	key   string
	topic string // of those without a key
}

func lineOf(e *engine.Event) lineID {
	if e.Key == "" {
		return lineID{lane: e.Lane, topic: e.Topic}
	}
	return lineID{lane: e.Lane, key: e.Key}
}

// idOf names a line that the database tells of.
func idOf(l engine.Line) lineID {
	if l.Key == "" {
		return lineID{lane: l.Lane, topic: l.Topic}
	}
	return lineID{lane: l.Lane, key: l.Key}
}

type line struct {
	topic string    // of the head; "" when it is not known
	count int       // its deliveries; a held key may have none
	stuck int       // those that failed or wait behind one that did; not those that somebody has had tried again
	due   time.Time // when the head, or the first without a key, may be tried
	fails bool      // whether the head, or what was last tried without a key, has failed last time: it is claimed alone

	last       int64 // the last event of a window that has become one of these; those of later windows come after it
	from       int64 // where the key is held from: later events are in the log only. 0 when it is not held
	old        bool  // whether some of those are old enough to be deleted
	room       int   // how many deliveries the line may have after a refill
	refilledAt time.Time
	passedAt   time.Time // when a walk last looked at events of the key, or for them
}

// Of a lane with many stuck deliveries, further ones are left in the log: they get no copy of their event. A key is held long before, so
// these are of many keys, or of none.
const copiedMost = 64_000 / engine.Lanes

// newBacklog returns a backlog for which the breaker is open for some topics.
func newBacklog(open ...string) *backlog {
	b := &backlog{lines: map[lineID]*line{}, apart: map[lineID]*line{}, waits: map[string]map[lineID]*line{}, short: map[lineID]*line{}}
	for lane := range b.roomy {
		b.roomy[lane] = map[lineID]*line{}
	}
	for _, topic := range open {
		b.waits[topic] = map[lineID]*line{}
	}
	return b
}

// line returns a line, or nil.
func (b *backlog) line(id lineID) *line {
	if l := b.lines[id]; l != nil || len(b.apart) == 0 {
		return l
	}
	return b.apart[id]
}

// file puts a line where it belongs by the topic of its head.
func (b *backlog) file(id lineID, l *line) {
	b.unfile(id)
	if same, open := b.waits[l.topic]; open {
		same[id], b.apart[id] = l, l
		return
	}
	b.lines[id] = l
	if l.due.Before(b.next) {
		b.next = l.due
	}
}

// unfile removes a line.
func (b *backlog) unfile(id lineID) {
	delete(b.lines, id)
	if l := b.apart[id]; l != nil {
		delete(b.apart, id)
		for _, same := range b.waits {
			if same[id] == l {
				delete(same, id)
			}
		}
	}
}

// head notes the topic of a line's head; "" where it is not known.
func (b *backlog) head(id lineID, topic string) {
	if l := b.line(id); l != nil && id.key != "" && l.topic != topic {
		l.topic = topic
		b.file(id, l)
	}
}

// part sets the lines apart that begin with a topic: only probes try those.
func (b *backlog) part(topic string) {
	b.waits[topic] = map[lineID]*line{}
	for id, l := range b.lines {
		if l.topic == topic {
			b.file(id, l)
		}
	}
}

// join has the lines that begin with a topic tried again, like others.
func (b *backlog) join(topic string) {
	same := b.waits[topic]
	delete(b.waits, topic)
	for id, l := range same {
		delete(b.apart, id)
		b.lines[id] = l
	}
	b.next = time.Time{}
}

// probe returns up to limit lines that are set apart for a topic, and due.
func (b *backlog) probe(topic string, now time.Time, limit int) []engine.Line {
	var due []engine.Line
	for id, l := range b.waits[topic] {
		if len(due) == limit {
			break
		}
		if l.count > 0 && !l.due.After(now) {
			due = append(due, engine.Line{Lane: id.lane, Key: id.key, Topic: id.topic, Alone: true})
		}
	}
	return due
}

// load adds what the database knows.
func (b *backlog) load(lines []engine.Line) {
	for _, l := range lines {
		id := idOf(l)
		b.add(id, l.Count, time.Now(), l.Topic)
		line := b.line(id)
		b.stuck(id, line.stuck-l.Again)
		if l.From != 0 {
			line.old = l.Old
			b.holdKey(id, l.From)
		}
	}
}

// stuck sets how many of a line are.
func (b *backlog) stuck(id lineID, n int) {
	l := b.line(id)
	n = min(n, l.count)
	b.lanes[id.lane] += n - l.stuck
	l.stuck = n
}

// atLeast notes that there are so many deliveries of a line. Somebody may have had some tried again, and nobody has told yet: counted
// for less, the line would be gone, and its key free, while some are left of it.
func (b *backlog) atLeast(id lineID, n int) {
	if l := b.line(id); l != nil {
		l.count = max(l.count, n)
	}
}

// failed notes that one of a line's deliveries, of a topic, was tried in vain: the head, where they have a key.
func (b *backlog) failed(id lineID, topic string) {
	if l := b.line(id); l != nil {
		l.fails = true
		b.stuck(id, l.stuck+1)
		b.head(id, topic)
	}
}

// comesAgain notes that one of a line's deliveries, which has failed before, was claimed and not tried.
func (b *backlog) comesAgain(id lineID) {
	if l := b.line(id); l != nil {
		l.fails = true
	}
}

// failedBefore notes of which lines another backlog knows that they failed last time.
func (b *backlog) failedBefore(other *backlog) {
	for _, lines := range []map[lineID]*line{other.lines, other.apart} {
		for id, l := range lines {
			if l.fails {
				b.comesAgain(id)
			}
		}
	}
}

// blocked reports whether an event has to wait behind others of its key and, if it has, whether it becomes a delivery of a line that
// goes on: one that has not failed again.
func (b *backlog) blocked(e *engine.Event) (blocked, flows bool) {
	if e.Key == "" || len(b.lines)+len(b.apart) == 0 {
		return false, false
	}
	id := lineOf(e)
	if l := b.lines[id]; l != nil {
		return true, !l.fails && l.from == 0
	}
	return b.apart[id] != nil, false
}

// add remembers n more deliveries of a line. The line as a whole becomes due at the given time if it is new, or has no
// key and nothing that is due earlier. If it is new, its head has the topic.
func (b *backlog) add(id lineID, n int, due time.Time, topic string) {
	l := b.line(id)
	if l == nil {
		l = &line{due: due, topic: topic}
		b.file(id, l)
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
	l := b.line(id)
	if l == nil {
		return
	}
	b.head(id, "")
	l.fails = false
	l.count -= min(n, l.count)
	b.stuck(id, min(l.stuck, l.count)) // those that are tried again are older, and done first
	if l.count == 0 && l.from == 0 {
		b.unfile(id)
	}
	b.check(id, l)
}

// took notes that an event of a window has become a delivery of a line.
func (b *backlog) took(id lineID, event int64) {
	if l := b.line(id); l != nil {
		l.last = max(l.last, event)
	}
}

// retry notes that a line may go on at the given time: the one behind a head that is done or, of events without a key, one
// among others.
func (b *backlog) retry(id lineID, due time.Time) {
	if l := b.line(id); l != nil && (id.key != "" || due.Before(l.due)) {
		b.wait(id, due)
	}
}

// wait sets when a line is due.
func (b *backlog) wait(id lineID, due time.Time) {
	if l := b.line(id); l != nil {
		l.due = due
		if due.Before(b.next) {
			b.next = due
		}
	}
}

// drop forgets a line of which the database knows nothing.
func (b *backlog) drop(id lineID) {
	if l := b.line(id); l != nil {
		b.done(id, l.count)
	}
}

// forget drops all lines of lanes that were released.
func (b *backlog) forget(lanes []int16) {
	gone := map[int16]bool{}
	for _, lane := range lanes {
		gone[lane] = true
	}
	for _, lines := range []map[lineID]*line{b.lines, b.apart} {
		for id, l := range lines {
			if gone[id.lane] {
				l.from = 0
				b.drop(id)
				b.unfile(id)
			}
		}
	}
}

// dueLines returns up to limit lines that are due now, no more than again of them lines that failed last time. Where what failed is tried
// one by one, such a line is claimed alone also without a key.
func (b *backlog) dueLines(now time.Time, limit, again int, oneByOne bool) []engine.Line {
	b.crowded = false
	if len(b.lines) == 0 || now.Before(b.next) {
		return nil
	}
	var due []engine.Line
	next, more, looks := now.Add(time.Hour), false, limit
	for id, l := range b.lines {
		if l.count == 0 {
			continue // held, and soon refilled
		}
		if !l.due.After(now) {
			if len(due) == limit {
				more = true
				if b.crowded = !l.fails; b.crowded || looks == 0 {
					break
				}
				looks--
				continue
			}
			if l.fails {
				if again == 0 {
					more = true
					continue
				}
				again--
			}
			due = append(due, engine.Line{Lane: id.lane, Key: id.key, Topic: id.topic, Alone: l.fails && (oneByOne || id.key != "")})
			continue
		}
		if l.due.Before(next) {
			next = l.due
		}
	}
	if b.next = next; more {
		b.next = time.Time{}
	}
	return due
}

// nextDue returns when to look again, or false when there is nothing to wait for.
func (b *backlog) nextDue() (time.Time, bool) { return b.next, len(b.lines) > 0 }

// isDue reports whether there may be something to try now.
func (b *backlog) isDue(now time.Time) bool { return len(b.lines) > 0 && !now.Before(b.next) }

// full sets which lanes are not read further: those with more than their part of so many stuck deliveries, until they have half of that. It
// reports whether some may be read again. A bulk retry holds no lane: it is worked beside new events, however large.
func (b *backlog) full(lanes map[int16]bool, most int) bool {
	freed := false
	for lane, n := range b.lanes {
		switch {
		case n > most/engine.Lanes:
			lanes[int16(lane)] = true
		case n < max(1, most/engine.Lanes/2) && lanes[int16(lane)]:
			delete(lanes, int16(lane))
			freed = true
		}
	}
	return freed
}
