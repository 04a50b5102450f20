package difference

// How many there are.
const (
	publishers = 3 // at most, with a transaction and an event each: see Size
	members    = 2
)

// A set has a bit for each transaction id, or for each publisher's event.
type set uint16

func (s set) has(n uint8) bool { return s>>n&1 == 1 }
func (s *set) add(n uint8)     { *s |= 1 << n }

func (s set) len() (n int) {
	for ; s != 0; s &= s - 1 {
		n++
	}
	return n
}

// A state of the database, and of two members.
type state struct {
	publishers [publishers]publisher
	members    [members]member
	read       read
	page       page
	reads      uint8
	nextXid    uint8
	nextID     uint8
	completed  uint8 // the latest transaction id that has ended
	again      bool  // an event was read twice
}

// A publisher has one transaction, and one event.
type publisher struct {
	phase  phase
	xid    uint8 // 0 before it has one
	id     uint8 // of the event; 0 before it has one
	before set   // the events that were committed when it took the id
}

type phase uint8

const (
	running phase = iota
	committed
	aborted
)

// A snapshot lists the transactions below xmax that are in progress. xmax is the latest completed one plus one.
type snapshot struct {
	xmax uint8
	xip  set
}

func (s snapshot) sees(xid uint8) bool { return xid < s.xmax && !s.xip.has(xid) }

// unseen has the transaction ids below one that the snapshot does not see.
func (s snapshot) unseen(below uint8) (set set) {
	for x := uint8(1); x < below; x++ {
		if !s.sees(x) {
			set.add(x)
		}
	}
	return set
}

// A member has a cursor, and stands at the end if it has read all that its snapshot sees.
type member struct {
	place
	before place // where its last window began, until it begins to handle that
	window bool  // whether there is one that it may put back
}

type place struct {
	after   uint8
	pending set // transaction ids
	read    set // events
	atEnd   bool
	seen    snapshot
}

// A read is under way: the snapshot is taken, and the cursor is not moved yet.
type read struct {
	who   who
	taken snapshot
	sees  set // events
}

// A page is what a read by lanes has found, for a member that comes to where it began.
type page struct {
	kept    bool
	after   uint8
	pending set
	gives   set   // events
	to      place // without those
}

type who uint8

const (
	nobody   who = iota
	first        // the first member, by lanes
	second       // the second
	together     // those that stand at the end
)

func start() state { return state{nextXid: 1, nextID: 1} }

// visible has the events that a snapshot sees now.
func (s *state) visible() (events set) {
	for p, it := range s.publishers {
		if it.phase == committed && it.id != 0 {
			events.add(uint8(p))
		}
	}
	return events
}
