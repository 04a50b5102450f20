package engine

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/signalbox-go/signalbox/outbox"
)

// A fakeEvent is a row of the simulated log.
type fakeEvent struct {
	id, xid  int64
	lane     int16
	wanted   bool // whether its topic is the subscription's
	inserted int  // when, by the simulation's clock
}

// A fakeTx is a transaction that runs.
type fakeTx struct {
	subs   []int64 // transaction ids of its subtransactions
	events []fakeEvent
	reader bool // took its id for a cursor, and publishes nothing
}

// fakePostgres assigns ids and transaction ids as PostgreSQL does, and takes its snapshots: xmax is the latest *completed*
// transaction id plus one, and transactions above it may be running in no list. Ids of subtransactions are in no list
// either, and an event has that of the transaction they belong to.
type fakePostgres struct {
	nextXid, nextID int64
	completed       int64 // latest
	running         map[int64]*fakeTx
	committed       []fakeEvent
	clock           int
	committedAt     map[int64]int // by the event's id
}

func newFakePostgres() *fakePostgres {
	return &fakePostgres{nextXid: 100, nextID: 1, completed: 99, running: map[int64]*fakeTx{}, committedAt: map[int64]int{}}
}

func (p *fakePostgres) takeXid() int64 {
	p.nextXid++
	return p.nextXid - 1
}

func (p *fakePostgres) begin() int64 {
	xid := p.takeXid()
	p.running[xid] = &fakeTx{}
	return xid
}

func (p *fakePostgres) insert(xid int64, lane int16, wanted bool) {
	p.clock++
	tx := p.running[xid]
	tx.events = append(tx.events, fakeEvent{p.nextID, xid, lane, wanted, p.clock})
	p.nextID++
}

// savepoint runs insert in a subtransaction, which has an id of its own. Rolled back, it is completed before the transaction is.
func (p *fakePostgres) savepoint(xid int64, release bool, insert func()) {
	tx, sub := p.running[xid], p.takeXid()
	before := len(tx.events)
	insert()
	if release {
		tx.subs = append(tx.subs, sub)
		return
	}
	tx.events = tx.events[:before]
	p.completed = max(p.completed, sub)
}

func (p *fakePostgres) end(xid int64, commit bool) {
	p.clock++
	tx := p.running[xid]
	if commit {
		p.committed = append(p.committed, tx.events...)
		for _, e := range tx.events {
			p.committedAt[e.id] = p.clock
		}
	}
	delete(p.running, xid)
	p.completed = slices.Max(append(tx.subs, xid, p.completed))
}

// publishers returns the transactions that may do more.
func (p *fakePostgres) publishers() []int64 {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(p.running)), func(xid int64) bool { return p.running[xid].reader })
}

func (p *fakePostgres) snapshot() snapshot {
	s := snapshot{xmax: p.completed + 1}
	for _, xid := range slices.Sorted(maps.Keys(p.running)) {
		if xid < s.xmax {
			s.xip = append(s.xip, xid)
		}
	}
	return s
}

func (p *fakePostgres) head() int64 { return p.nextID - 1 }

// createFromNow is create in Go: where a new subscription's lanes begin, and what it saw, and so leaves out.
func (p *fakePostgres) createFromNow(meanwhile func()) (first cursor, past []fakeEvent) {
	s, past := p.snapshot(), slices.Clone(p.committed)
	meanwhile()
	head := p.head()
	meanwhile()
	next := p.begin()
	p.running[next].reader = true
	meanwhile()
	p.end(next, true)
	return cursor{after: []int64{head}, pending: s.unseen(next)}, past
}

// A fakeShape says how much a read may take.
type fakeShape struct {
	limit int           // of late rows, all lanes together
	take  map[int16]int // of new rows looked at, by lane; 0 where it is held
	room  int           // for wanted events, however small: the window's bytes
}

// read is readSQL and collect in Go. What happens between the snapshot, the sequence's value and the transaction id is done
// by meanwhile.
func (p *fakePostgres) read(cursors []cursor, shape fakeShape, meanwhile func()) (r reading, events []fakeEvent) {
	r = reading{snapshot: p.snapshot(), stopped: map[int16]int64{}}
	visible := slices.SortedFunc(slices.Values(p.committed), func(a, b fakeEvent) int { return cmp.Compare(a.id, b.id) })
	meanwhile()
	r.head = p.head()
	meanwhile()

	catchingUp := catchingUp(cursors)
	take := func(lane int16) int {
		if catchingUp {
			return 0
		}
		return shape.take[lane]
	}
	var maxAfter int64
	minAfter := int64(math.MaxInt64)
	for _, c := range cursors {
		for i, lane := range c.lanes {
			maxAfter = max(maxAfter, c.after[i])
			if take(lane) > 0 {
				minAfter = min(minAfter, c.after[i])
			}
		}
	}
	if r.head > minAfter {
		r.next = p.begin()
		p.running[r.next].reader = true
		meanwhile()
		defer p.end(r.next, true)
	}

	waitsFor := func(c cursor, e fakeEvent) bool {
		if catchingUp {
			return c.late.has(e.xid) && e.id > c.lateAfter
		}
		return c.pending.has(e.xid)
	}
	late := 0 // of any lane and topic: the scan does not know whose they are
	for _, e := range visible {
		if e.id > maxAfter || !r.snapshot.sees(e.xid) || !slices.ContainsFunc(cursors, func(c cursor) bool { return waitsFor(c, e) }) {
			continue
		}
		if late++; late > shape.limit {
			r.lateCut = e.id
			break
		}
		for _, c := range cursors {
			i := slices.Index(c.lanes, e.lane)
			if i < 0 || e.id > c.after[i] || !waitsFor(c, e) || !e.wanted {
				continue
			}
			if len(events) == shape.room {
				r.lateCut = e.id
				break
			}
			events = append(events, e)
		}
		if r.lateCut != 0 {
			break
		}
	}

	for _, c := range cursors {
		for i, lane := range c.lanes {
			taken, last, missed := 0, c.after[i], false
			for _, e := range visible {
				if e.lane != lane || e.id <= c.after[i] || taken == take(lane) {
					continue
				}
				if missed = missed || r.lateCut != 0 || len(events) == shape.room; missed {
					break
				}
				taken, last = taken+1, e.id
				if e.wanted {
					events = append(events, e)
				}
			}
			if missed || taken == take(lane) {
				r.stopped[lane] = last
			}
		}
	}
	slices.SortFunc(events, func(a, b fakeEvent) int { return cmp.Compare(a.id, b.id) })
	return r, events
}

// difference is differenceSQL and collectDifference in Go.
func (p *fakePostgres) difference(oldest snapshot, least int64, meanwhile func()) *Difference {
	d := &Difference{reading: reading{snapshot: p.snapshot(), stopped: map[int16]int64{}}}
	visible := slices.Clone(p.committed)
	meanwhile()
	d.head = p.head()
	meanwhile()
	if d.head > least {
		d.next = p.begin()
		p.running[d.next].reader = true
		meanwhile()
		defer p.end(d.next, true)
	}
	for _, e := range visible {
		if oldest.sees(e.xid) || !d.snapshot.sees(e.xid) {
			continue
		}
		topic := "wanted"
		if !e.wanted {
			topic = "other"
		}
		d.events, d.xids = append(d.events, Event{Lane: e.lane, Event: outbox.Event{ID: e.id, Topic: topic}}), append(d.xids, e.xid)
	}
	return d
}
