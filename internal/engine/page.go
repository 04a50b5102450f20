package engine

import (
	"iter"
	"maps"
	"sync"
	"time"

	"github.com/signalbox-go/signalbox/internal/topic"
)

// Pages are windows that were read from lanes lately, for members of one worker that work off a backlog together. What a read finds and
// how far it gets is a matter of the cursors that it begins at: a member that stands at the same ones takes what was read for another.
// So one read serves all of them, and one that is slower finds it a while later.
//
// The cursors have to be the same in all that they say: of two with equal ids, each waits for transactions of its own.
type Pages struct {
	most int // bytes of events to keep

	mu     sync.Mutex
	places map[*Member]place
	pages  []*page // in the order in which they were read
	bytes  int     // of them, about
}

// A place is where a member stands, and what it wants to read there.
type place struct {
	cursors []cursor // nil until it owns a lane: it may come to stand anywhere
	topics  topic.Patterns
}

// A page is what one read has found for all members that stand at its cursors. It never changes.
type page struct {
	before []cursor
	topics topic.Patterns // what was read of the log
	floor  int64
	limit  int // events that were asked for, and
	most   int // bytes

	events  []Event
	bytes   int
	cursors []cursor // as in a Window
	moved   bool
	full    bool
	seen    *snapshot // the rest as in a Member
	cut     []int16
	first   int16

	at time.Time
}

const (
	// pageAge is for how long a page is kept.
	pageAge = 10 * time.Second
	// pageBytes is about what a page takes beside its events.
	pageBytes = 4 << 10
	// pageFactor is how many times as many events one member may ask for as another one whose page it takes. Those that differ by more
	// are no company: the slower one would hold up the other, or have more than it has time for.
	pageFactor = 2
)

// NewPages keeps so many bytes of events.
func NewPages(most int) *Pages { return &Pages{most: most, places: map[*Member]place{}} }

// Share has the member read together with the others that share these pages, windows of so many events at most. It has to be called before
// any of them reads.
func (m *Member) Share(p *Pages, window int) {
	m.pages, m.window = p, window
	p.places[m] = place{topics: m.topics}
}

// mayShare reports whether what the member reads next is a matter of its cursors alone.
func (m *Member) mayShare() bool {
	return m.pages != nil && len(m.cursors) > 0 && len(m.Full) == 0 && !m.long && !catchingUp(m.cursors)
}

// takePage returns the window that was read for another member at the same cursors, or nil if there is none that suits this one. If there
// are several, the largest takes it to where most are.
func (m *Member) takePage(limit int) *Window {
	if !m.mayShare() {
		return nil
	}
	p := m.pages.find(m, limit)
	if p == nil {
		return nil
	}
	w := &Window{before: m.cursors, seenBefore: m.seen, cursors: p.cursors, moved: p.moved, full: p.full, old: true}
	w.Events, w.bytes = m.pick(p.events)
	m.stand(w, p.seen)
	m.first, m.lastCount = p.first, len(w.Events)
	if len(w.Events) > 0 {
		m.eventBytes = (m.eventBytes + w.bytes/len(w.Events)) / 2
	}
	clear(m.hot)
	for _, lane := range p.cut {
		m.hot[lane] = true
	}
	m.pages.moved(m)
	return w
}

func (ps *Pages) find(m *Member, limit int) (best *page) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.pages {
		if (best == nil || len(p.events) > len(best.events)) && p.suits(m, limit) {
			best = p
		}
	}
	return best
}

// suits reports whether a page is what the member would have read, had it been the one to read it.
func (p *page) suits(m *Member, limit int) bool {
	if p.floor != m.floor || !same(p.before, m.cursors) {
		return false
	}
	for _, pattern := range m.topics {
		if !p.topics.Covers(pattern) {
			return false
		}
	}
	if p.most > m.most || p.limit > m.window || p.full && pageFactor*p.limit < limit {
		return false
	}
	if p.limit <= limit {
		return true
	}
	n := 0
	for range m.wanted(p.events) {
		n++
	}
	return n <= pageFactor*limit
}

// wanted goes through the events that match the member's topics.
func (m *Member) wanted(events []Event) iter.Seq[*Event] {
	return func(yield func(*Event) bool) {
		last, matches := "", false
		for i := range events {
			e := &events[i]
			if e.Topic != last {
				last, matches = e.Topic, m.topics.Match(e.Topic)
			}
			if matches && !yield(e) {
				return
			}
		}
	}
}

// pick returns copies of the events that match the member's topics, and how long they are: a handler may do with its event what it likes.
func (m *Member) pick(events []Event) (own []Event, bytes int) {
	var arena arena
	for e := range m.wanted(events) {
		mine := *e
		mine.Payload, mine.Headers = arena.bytes(e.Payload), maps.Clone(e.Headers)
		own, bytes = append(own, mine), bytes+size(e)
	}
	return own, bytes
}

// wants returns the topics of the member and of those that may come to where it stands: they stand there, or where a page begins, or have yet
// to claim lanes. It is false if there are none.
func (ps *Pages) wants(m *Member) (topics topic.Patterns, others bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	topics = append(topics, m.topics...)
	for other, at := range ps.places {
		if other == m || !ps.mayCome(at.cursors, m.cursors) {
			continue
		}
		others = true
		for _, pattern := range at.topics {
			if !topics.Covers(pattern) {
				topics = append(topics, pattern)
			}
		}
	}
	return topics, others
}

func (ps *Pages) mayCome(from, to []cursor) bool {
	if from == nil || same(from, to) {
		return true
	}
	for _, p := range ps.pages {
		if same(from, p.before) {
			return true
		}
	}
	return false
}

// add keeps a page, and lets go of the oldest ones that are too much.
func (ps *Pages) add(p *page) {
	p.at = time.Now()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.pages, ps.bytes = append(ps.pages, p), ps.bytes+p.bytes+pageBytes
	ps.tidy()
}

// moved notes where a member stands.
func (ps *Pages) moved(m *Member) {
	if ps == nil {
		return
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.places[m] = place{m.cursors, m.topics}
}

// Tidy lets go of what is old.
func (ps *Pages) Tidy() {
	if ps == nil {
		return
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.tidy()
}

func (ps *Pages) tidy() {
	for len(ps.pages) > 0 && (ps.bytes > ps.most || time.Since(ps.pages[0].at) > pageAge) {
		ps.bytes -= ps.pages[0].bytes + pageBytes
		ps.pages[0] = nil // or its memory would stay
		ps.pages = ps.pages[1:]
	}
}
