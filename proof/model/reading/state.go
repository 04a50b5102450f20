package reading

// How many there are at most: see Size.
const (
	publishers = 3
	inserts    = 2 // of each transaction
)

// A set has a bit for each transaction id, or for each event.
type set uint16

func (s set) has(n uint8) bool { return s>>n&1 == 1 }
func (s *set) add(n uint8)     { *s |= 1 << n }

// A state of the database, and of a reader.
type state struct {
	publishers [publishers]publisher
	reader     reader
	nextXid    uint8
	nextID     uint8
	completed  uint8 // the latest transaction id that has ended
	again      bool  // an event was read twice
}

// A publisher has one transaction.
type publisher struct {
	phase    phase
	xid      uint8          // 0 before it has one
	inserted uint8          // events
	ids      [inserts]uint8 // of the events
	before   [inserts]set   // the events that were committed when it took the id
	cached   uint8          // only with CachedIDs: an id that it took and has not used
}

type phase uint8

const (
	running phase = iota
	half          // an insert has evaluated its first default, and not its second
	committed
	aborted
)

// A reader is a lane's owner, with its cursor.
type reader struct {
	after   uint8
	pending set // transaction ids
	read    set // events
	reads   uint8

	// The read under way.
	step step
	sees set   // events, in its snapshot
	xip  set   // transactions in progress, as far as the snapshot lists them
	xmax uint8 // the latest completed transaction id plus one
	head uint8 // the last id that was taken
	next uint8 // its own transaction id; 0 when it takes none
}

type step uint8

const (
	between  step = iota
	looked        // the snapshot is taken
	measured      // the head is read
	early         // only with EarlyXid: it has its transaction id, and no snapshot
)

func start() state { return state{nextXid: 1, nextID: 1} }

// event is the number of a publisher's event in a set.
func event(p, n int) uint8 { return uint8(p*inserts + n) }

// visible has the events that a snapshot sees now.
func (s *state) visible() (events set) {
	for p, it := range s.publishers {
		if it.phase == committed {
			for n := range it.inserted {
				events.add(event(p, int(n)))
			}
		}
	}
	return events
}

func (s *state) newXid() uint8 {
	s.nextXid++
	return s.nextXid - 1
}

func (s *state) newID() uint8 {
	s.nextID++
	return s.nextID - 1
}
