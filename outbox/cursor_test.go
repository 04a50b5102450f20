package outbox

import (
	"math"
	"slices"
	"sort"
	"testing"

	"pgregory.net/rapid"
)

// A fakeEvent is a row of the simulated log.
type fakeEvent struct {
	id, xid int64
	lane    int16
}

// fakePostgres assigns ids and transaction ids as PostgreSQL does, and takes its snapshots: xmax is the latest *completed*
// transaction id plus one, and transactions above it may be running in no list.
type fakePostgres struct {
	nextXid, nextID int64
	completed       int64 // latest
	running         map[int64][]fakeEvent
	committed       []fakeEvent
}

func newFakePostgres() *fakePostgres {
	return &fakePostgres{nextXid: 100, nextID: 1, completed: 99, running: map[int64][]fakeEvent{}}
}

func (p *fakePostgres) begin() int64 {
	xid := p.nextXid
	p.nextXid++
	p.running[xid] = nil
	return xid
}

func (p *fakePostgres) insert(xid int64, lane int16) {
	p.running[xid] = append(p.running[xid], fakeEvent{p.nextID, xid, lane})
	p.nextID++
}

func (p *fakePostgres) end(xid int64, commit bool) {
	if commit {
		p.committed = append(p.committed, p.running[xid]...)
	}
	delete(p.running, xid)
	p.completed = max(p.completed, xid)
}

func (p *fakePostgres) snapshot() snapshot {
	s := snapshot{xmax: p.completed + 1}
	for xid := range p.running {
		if xid < s.xmax {
			s.xip = append(s.xip, xid)
		}
	}
	slices.Sort(s.xip)
	return s
}

// sees is pg_visible_in_snapshot for a transaction that has ended.
func (s snapshot) sees(xid int64) bool {
	return xid < s.xmax && !slices.Contains(s.xip, xid)
}

// read is readSQL in Go: late events of ended transactions up to limit, then new ones of each lane up to its take. What
// happens between the snapshot and the transaction id is done by meanwhile.
func (p *fakePostgres) read(cursors []cursor, limit int, held map[int16]bool, meanwhile func()) (r reading, events []fakeEvent) {
	r = reading{snapshot: p.snapshot(), stopped: map[int16]int64{}}
	visible := slices.Clone(p.committed) // as of the snapshot: all that is committed now
	meanwhile()
	r.head = p.nextID - 1
	meanwhile()

	byID := func(list []fakeEvent) {
		sort.Slice(list, func(i, j int) bool { return list[i].id < list[j].id })
	}
	byID(visible)
	inCatchUp := catchingUp(cursors)
	var maxAfter int64
	minAfter := int64(math.MaxInt64)
	for _, c := range cursors {
		for i, lane := range c.lanes {
			maxAfter = max(maxAfter, c.after[i])
			if !inCatchUp && !held[lane] {
				minAfter = min(minAfter, c.after[i])
			}
		}
	}
	if r.head > minAfter {
		r.next = p.begin()
		p.end(r.next, true)
	}
	waitsFor := func(c cursor, e fakeEvent) bool {
		if inCatchUp {
			return c.late.has(e.xid) && e.id > c.lateAfter
		}
		return c.pending.has(e.xid)
	}
	var late []fakeEvent // of any lane: the scan does not know whose they are
	for _, e := range visible {
		if e.id <= maxAfter && r.snapshot.sees(e.xid) && slices.ContainsFunc(cursors, func(c cursor) bool { return waitsFor(c, e) }) {
			late = append(late, e)
		}
	}
	if len(late) > limit {
		r.lateCut = late[limit].id - 1
		late = late[:limit]
	}
	for _, e := range late {
		for _, c := range cursors {
			if i := slices.Index(c.lanes, e.lane); i >= 0 && e.id <= c.after[i] && waitsFor(c, e) {
				events = append(events, e)
			}
		}
	}
	if r.lateCut != 0 || inCatchUp {
		return r, events
	}
	take := max(1, limit/8)
	for _, c := range cursors {
		for i, lane := range c.lanes {
			n := 0
			last := c.after[i]
			for _, e := range visible {
				if e.lane != lane || e.id <= c.after[i] || held[lane] {
					continue
				}
				if n == take {
					break
				}
				n, last = n+1, e.id
				events = append(events, e)
			}
			if n == take || held[lane] {
				r.stopped[lane] = last
			}
		}
	}
	byID(events)
	return r, events
}

// TestCursorLosesNothing drives readers against the simulation: two of them pass lanes to each other, crash and go on from
// their stored cursors, hold lanes, and read with the smallest limits, while transactions begin, insert, commit and abort in
// any order. Every committed event is handled, and none twice but for a crash.
func TestCursorLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const lanes = 4
		p := newFakePostgres()
		var all []int16
		for lane := range int16(lanes) {
			all = append(all, lane)
		}
		readers := [2][]cursor{{{lanes: all, after: make([]int64, lanes)}}, nil}
		handled := map[int64]int{}
		crashed := map[int64]bool{} // handled by a read that was not settled
		held := map[int16]bool{}

		act := func() {
			xids := make([]int64, 0, len(p.running))
			for xid := range p.running {
				xids = append(xids, xid)
			}
			slices.Sort(xids)
			switch action := rapid.IntRange(0, 9).Draw(t, "action"); {
			case action < 2 || len(xids) == 0:
				p.begin()
			case action < 7:
				xid := rapid.SampledFrom(xids).Draw(t, "xid")
				for range rapid.IntRange(1, 6).Draw(t, "events") {
					p.insert(xid, int16(rapid.IntRange(0, lanes-1).Draw(t, "lane")))
				}
			default:
				p.end(rapid.SampledFrom(xids).Draw(t, "xid"), rapid.IntRange(0, 3).Draw(t, "fate") > 0)
			}
		}
		read := func(i, limit int, meanwhile func(), crash bool) (more bool) {
			if len(readers[i]) == 0 {
				return false
			}
			r, events := p.read(readers[i], limit, held, meanwhile)
			more = len(r.stopped) > 0 || r.lateCut != 0 || catchingUp(readers[i])
			for _, e := range events {
				handled[e.id]++
				if crash {
					crashed[e.id] = true
				}
			}
			if !crash {
				readers[i] = advance(readers[i], r)
			}
			return more
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1, 2, 3:
				act()
			case 4: // lanes change hands, with their cursors
				from := rapid.IntRange(0, 1).Draw(t, "from")
				rest, moved := split(readers[from], []int16{int16(rapid.IntRange(0, lanes-1).Draw(t, "lane"))})
				readers[from], readers[1-from] = rest, append(slices.Clone(readers[1-from]), moved...)
			case 5:
				held[int16(rapid.IntRange(0, lanes-1).Draw(t, "lane"))] = rapid.Bool().Draw(t, "held")
			default:
				read(rapid.IntRange(0, 1).Draw(t, "reader"), rapid.IntRange(1, 20).Draw(t, "limit"), func() {
					for range rapid.IntRange(0, 3).Draw(t, "meanwhile") {
						act()
					}
				}, rapid.IntRange(0, 9).Draw(t, "crash") == 0)
			}
		}
		for xid := range p.running {
			p.end(xid, true)
		}
		clear(held)
		for i := range readers {
			for read(i, 3, func() {}, false) {
			}
			read(i, 3, func() {}, false) // nothing runs any more, so nothing stays pending
		}
		for _, e := range p.committed {
			switch n := handled[e.id]; {
			case n == 0:
				t.Fatalf("event %d of transaction %d in lane %d was lost", e.id, e.xid, e.lane)
			case n > 1 && !crashed[e.id]:
				t.Fatalf("event %d of transaction %d in lane %d was handled %d times", e.id, e.xid, e.lane, n)
			}
		}
		if len(handled) != len(p.committed) {
			t.Fatalf("%d events were handled, %d committed", len(handled), len(p.committed))
		}
		for _, cursors := range readers {
			for _, c := range cursors {
				if len(c.pending) > 0 || len(c.late) > 0 {
					t.Fatalf("nothing runs, and %v is pending, %v late", c.pending, c.late)
				}
			}
		}
	})
}

func (set xids) has(xid int64) bool {
	_, found := slices.BinarySearchFunc(set, xid, func(s span, xid int64) int {
		switch {
		case s.to <= xid:
			return -1
		case s.from > xid:
			return 1
		}
		return 0
	})
	return found
}

func TestXids(t *testing.T) {
	t.Parallel()
	const universe = 40
	set := rapid.Custom(func(t *rapid.T) xids {
		var spans []span
		for range rapid.IntRange(0, 6).Draw(t, "spans") {
			from := rapid.Int64Range(0, universe).Draw(t, "from")
			spans = append(spans, span{from, rapid.Int64Range(0, universe).Draw(t, "to")})
		}
		return newXids(spans...)
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := set.Draw(t, "a"), set.Draw(t, "b")
		both, without := a.both(b), a.without(b)
		for xid := range int64(universe) {
			if both.has(xid) != (a.has(xid) && b.has(xid)) {
				t.Fatalf("%d in %v and %v: both is %v", xid, a, b, both)
			}
			if without.has(xid) != (a.has(xid) && !b.has(xid)) {
				t.Fatalf("%d in %v and not %v: without is %v", xid, a, b, without)
			}
		}
		if !xidsOf(a.multirange()).equal(a) {
			t.Fatalf("%v does not survive the way to PostgreSQL and back", a)
		}
	})
}

func TestParseSnapshot(t *testing.T) {
	t.Parallel()
	s, err := parseSnapshot("10:20:10,14")
	if err != nil || s.xmax != 20 || !slices.Equal(s.xip, []int64{10, 14}) {
		t.Errorf("got %+v, %v", s, err)
	}
	if got, want := s.unseen(23), newXids(span{10, 11}, span{14, 15}, span{20, 23}); !got.equal(want) {
		t.Errorf("unseen: got %v, want %v", got, want)
	}
	for _, text := range []string{"", "10", "10:20", "20:10:", "10:20:9", "10:20:20", "10:20:12,11", "x:20:", "10:20:,", "0:5:", "10:20:10:"} {
		if _, err := parseSnapshot(text); err == nil {
			t.Errorf("%q was taken for a snapshot", text)
		}
	}
}
