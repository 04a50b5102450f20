package engine

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/signalbox-go/signalbox/internal/topic"
)

// simulatedLanes is how many lanes the simulation has.
const simulatedLanes = 4

// A storedLane is a row of outbox.lanes, with its owner's last row of outbox.progress folded in.
type storedLane struct {
	owner *simulatedReader
	cursor
}

// A simulatedReader is a Member: the cursors of its last read, and the windows that it has yet to settle.
type simulatedReader struct {
	cursors []cursor
	seen    *snapshot
	windows []simulatedWindow
}

type simulatedWindow struct {
	cursors []cursor
	events  []fakeEvent
}

// A simulation runs readers of one subscription against the simulated PostgreSQL, and checks what they are given.
type simulation struct {
	*rapid.T
	*fakePostgres
	lanes   [simulatedLanes]storedLane
	readers [3]simulatedReader
	held    map[int16]bool
	past    map[int64]bool // events that the subscription began after
	handled map[int64]bool
	settled map[int64]bool
	inHand  map[int64]bool // handled by a reader that lives and has yet to settle them
}

// TestCursorLosesNothing drives readers against the simulation. They claim lanes and give them back, settle some of their
// windows, crash and leave the rest to others, who begin at the stored cursors; lanes are held; reads are cut anywhere, to a
// single row; and in all the moments between, transactions begin, insert, roll back to savepoints, commit and abort in any
// order. Every committed event that the subscription wants is settled once, handled again only after a crash, and never before
// one of its lane that had been committed when it was published.
func TestCursorLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := &simulation{
			T: t, fakePostgres: newFakePostgres(), held: map[int16]bool{},
			past: map[int64]bool{}, handled: map[int64]bool{}, settled: map[int64]bool{}, inHand: map[int64]bool{},
		}
		s.subscribe()
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			s.step()
		}
		s.finish()
	})
}

// subscribe creates the subscription, before anything is published or while it is.
func (s *simulation) subscribe() {
	first := cursor{after: []int64{0}}
	for range rapid.IntRange(0, 12).Draw(s.T, "before") {
		s.act()
	}
	if rapid.Bool().Draw(s.T, "from now") {
		var past []fakeEvent
		first, past = s.createFromNow(s.meanwhile)
		for _, e := range past {
			s.past[e.id] = true
		}
	}
	for lane := range s.lanes {
		s.lanes[lane].cursor = first
	}
}

func (s *simulation) step() {
	r := &s.readers[rapid.IntRange(0, len(s.readers)-1).Draw(s.T, "reader")]
	switch step := rapid.IntRange(0, 24).Draw(s.T, "step"); {
	case step >= 20:
		s.difference(s.meanwhile)
	case step < 8:
		s.act()
	case step < 14:
		s.read(r, s.shape(), s.meanwhile)
	case step < 16:
		s.settle(r, rapid.IntRange(0, len(r.windows)).Draw(s.T, "windows"))
	case step == 16:
		s.claim(r, rapid.IntRange(1, simulatedLanes).Draw(s.T, "lanes"))
	case step == 17:
		s.release(r, rapid.IntRange(1, simulatedLanes).Draw(s.T, "lanes"))
	case step == 18:
		s.crash(r)
	default:
		s.held[s.lane()] = rapid.Bool().Draw(s.T, "held")
	}
}

func (s *simulation) lane() int16 {
	return int16(rapid.IntRange(0, simulatedLanes-1).Draw(s.T, "lane"))
}

// act has some transaction do something.
func (s *simulation) act() {
	publishers := s.publishers()
	action := rapid.IntRange(0, 9).Draw(s.T, "action")
	if action < 3 || len(publishers) == 0 {
		publishers = []int64{s.begin()} // and inserts at once, or later
		action = rapid.SampledFrom([]int{3, 6}).Draw(s.T, "first")
	}
	xid := rapid.SampledFrom(publishers).Draw(s.T, "xid")
	insert := func() {
		for range rapid.IntRange(0, 6).Draw(s.T, "events") {
			s.insert(xid, s.lane(), rapid.IntRange(0, 2).Draw(s.T, "topic") > 0)
		}
	}
	switch {
	case action < 6:
		insert()
	case action == 6:
		s.savepoint(xid, rapid.Bool().Draw(s.T, "release"), insert)
	default:
		s.end(xid, rapid.IntRange(0, 3).Draw(s.T, "fate") > 0)
	}
}

// meanwhile lets transactions do something in the middle of a statement.
func (s *simulation) meanwhile() {
	for range rapid.IntRange(0, 5).Draw(s.T, "meanwhile") {
		s.act()
	}
}

// shape draws how much a read may take.
func (s *simulation) shape() fakeShape {
	size := rapid.OneOf(rapid.Just(1), rapid.IntRange(1, 4), rapid.IntRange(1, 30))
	shape := fakeShape{limit: size.Draw(s.T, "limit"), room: size.Draw(s.T, "room"), take: map[int16]int{}}
	for lane := range int16(simulatedLanes) {
		if !s.held[lane] {
			shape.take[lane] = size.Draw(s.T, "take")
		}
	}
	return shape
}

// read handles one more window, and returns how many events it had.
func (s *simulation) read(r *simulatedReader, shape fakeShape, meanwhile func()) int {
	if len(r.cursors) == 0 {
		return 0
	}
	found, events := s.fakePostgres.read(r.cursors, shape, meanwhile)
	atEnd := !catchingUp(r.cursors) && found.lateCut == 0 && len(found.stopped) == 0
	r.cursors, r.seen = advance(r.cursors, found), nil
	if atEnd {
		r.cursors, r.seen = joined(r.cursors), &found.snapshot
	}
	s.give(r, events)
	return len(events)
}

// difference reads for all who stand at the end of the log.
func (s *simulation) difference(meanwhile func()) {
	var (
		readers []*simulatedReader
		stands  []Stand
	)
	for i := range s.readers {
		r := &s.readers[i]
		m := &Member{cursors: r.cursors, seen: r.seen}
		if stand, ok := m.Stand(); ok && rapid.IntRange(0, 3).Draw(s.T, "reads") > 0 {
			readers, stands = append(readers, r), append(stands, stand)
		}
	}
	if len(stands) == 0 {
		return
	}
	args := differenceArgs(stands)
	oldest, least := snapshot{xip: args[0].([]int64), xmax: args[1].(int64)}, args[7].(int64)
	d := s.fakePostgres.difference(oldest, least, meanwhile)
	for _, r := range readers {
		m := &Member{cursors: r.cursors, seen: r.seen, topics: topic.Patterns{"wanted"}}
		w := m.Move(d)
		var events []fakeEvent
		for _, e := range w.Events {
			events = append(events, s.committed[slices.IndexFunc(s.committed, func(f fakeEvent) bool { return f.id == e.ID })])
		}
		if rapid.IntRange(0, 9).Draw(s.T, "put back") == 0 {
			m.PutBack(w)
			events = nil
		}
		r.cursors, r.seen = m.cursors, m.seen
		s.give(r, events)
	}
}

// give has a reader handle events, which were read up to where its cursors are.
func (s *simulation) give(r *simulatedReader, events []fakeEvent) {
	for _, e := range events {
		what := func(fault string) { s.Fatalf("event %d of transaction %d in lane %d %s", e.id, e.xid, e.lane, fault) }
		switch {
		case s.past[e.id]:
			what("is older than the subscription, and was handled")
		case s.settled[e.id]:
			what("was settled, and is handled again")
		case s.inHand[e.id]:
			what("is being handled, and was read again")
		}
		for _, before := range s.committed {
			if before.lane == e.lane && before.wanted && !s.past[before.id] && !s.handled[before.id] && s.committedAt[before.id] < e.inserted {
				what(fmt.Sprintf("overtakes event %d, which was there before it", before.id))
			}
		}
		s.handled[e.id], s.inHand[e.id] = true, true
	}
	r.windows = append(r.windows, simulatedWindow{r.cursors, events})
}

// settle records the first n windows.
func (s *simulation) settle(r *simulatedReader, n int) {
	for _, w := range r.windows[:n] {
		for _, e := range w.events {
			delete(s.inHand, e.id)
			s.settled[e.id] = true
		}
		s.store(w.cursors)
	}
	r.windows = slices.Clone(r.windows[n:])
}

func (s *simulation) store(cursors []cursor) {
	for _, c := range cursors {
		for i, lane := range c.lanes {
			stored := c
			stored.lanes, stored.after = nil, []int64{c.after[i]}
			stored.pending, stored.late = xidsOf(c.pending.multirange()), xidsOf(c.late.multirange())
			s.lanes[lane].cursor = stored
		}
	}
}

// claim takes up to n free lanes, as claimSQL does.
func (s *simulation) claim(r *simulatedReader, n int) {
	var claimed []cursor
	for i := range s.lanes {
		lane := &s.lanes[i]
		if lane.owner != nil || n == 0 {
			continue
		}
		lane.owner = r
		n--
		same := slices.IndexFunc(claimed, func(c cursor) bool {
			return c.pending.equal(lane.pending) && c.late.equal(lane.late) && c.lateAfter == lane.lateAfter
		})
		if same < 0 {
			same = len(claimed)
			claimed = append(claimed, cursor{pending: lane.pending, late: lane.late, lateAfter: lane.lateAfter})
		}
		c := &claimed[same]
		c.lanes, c.after = append(c.lanes, int16(i)), append(c.after, lane.after[0])
	}
	r.cursors = append(slices.Clone(r.cursors), claimed...)
	if len(claimed) > 0 {
		r.seen = nil
	}
}

// release settles everything and gives up to n lanes back.
func (s *simulation) release(r *simulatedReader, n int) {
	s.settle(r, len(r.windows))
	var lanes []int16
	for _, c := range r.cursors {
		lanes = append(lanes, c.lanes...)
	}
	lanes = lanes[max(0, len(lanes)-n):]
	rest, released := split(r.cursors, lanes)
	s.store(released)
	for _, lane := range lanes {
		s.lanes[lane].owner = nil
	}
	r.cursors = rest
}

// crash leaves what was settled to others.
func (s *simulation) crash(r *simulatedReader) {
	for _, w := range r.windows {
		for _, e := range w.events {
			delete(s.inHand, e.id)
		}
	}
	for i := range s.lanes {
		if s.lanes[i].owner == r {
			s.lanes[i].owner = nil
		}
	}
	*r = simulatedReader{}
}

// drain reads and settles until nothing is left that could be found.
func (s *simulation) drain() {
	shape := s.shape()
	for i := range s.readers {
		r := &s.readers[i]
		for reads := 0; unread(r.cursors, s.snapshot(), s.head(), s.held); reads++ {
			if s.read(r, shape, func() {}); reads > 10_000 {
				s.Fatalf("reads find no end: %+v", r.cursors)
			}
		}
		before := s.nextXid
		if s.read(r, shape, func() {}) > 0 {
			s.Fatal("there was something to read, and nobody said so")
		}
		if s.nextXid != before {
			s.Fatal("a read that finds nothing takes a transaction id")
		}
		s.settle(r, len(r.windows))
	}
}

// finish reads what there is, ends all transactions, reads what they leave, and checks that nothing is missing.
func (s *simulation) finish() {
	clear(s.held)
	s.claim(&s.readers[0], simulatedLanes)
	s.drain()
	for _, xid := range s.publishers() {
		s.end(xid, rapid.Bool().Draw(s.T, "commit"))
	}
	s.drain()
	for _, r := range s.readers {
		for _, c := range r.cursors {
			if len(c.pending) > 0 || len(c.late) > 0 {
				s.Fatalf("nothing runs, and %v is pending, %v late", c.pending, c.late)
			}
		}
	}
	wanted := 0
	for _, e := range s.committed {
		if !e.wanted || s.past[e.id] {
			continue
		}
		if wanted++; !s.settled[e.id] {
			s.Fatalf("event %d of transaction %d in lane %d was lost", e.id, e.xid, e.lane)
		}
	}
	if len(s.settled) != wanted {
		s.Fatalf("%d events were settled, %d committed", len(s.settled), wanted)
	}
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

// TestOlder has two snapshots that differ in what is in progress only, as when a transaction below xmax ends between them.
func TestOlder(t *testing.T) {
	t.Parallel()
	inOrder := []snapshot{{xmax: 800, xip: []int64{790, 795}}, {xmax: 802, xip: []int64{790, 795, 800}}, {xmax: 802, xip: []int64{790, 800}}, {xmax: 802}}
	for i, a := range inOrder {
		for j, b := range inOrder {
			if got := a.older(b); got != (i < j) {
				t.Errorf("%v older than %v: %t", a, b, got)
			}
		}
	}
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
