package holds

// events is how many there are at most.
const events = 5

// A set has a bit for each event. An event's number is the order in which it took its id: so it stands for the id, which is one more.
type set uint8

func (s set) has(n int) bool { return s>>n&1 == 1 }
func (s *set) add(n int)     { *s |= 1 << n }
func (s *set) drop(n int)    { *s &^= 1 << n }

// A state of the database, and of the worker that owns the lane.
type state struct {
	phase  [events]phase
	before [events]set // by event, those that were committed when it took its id
	log    set         // events that are not deleted

	cursor   cursor // as it is settled
	rows     set    // deliveries
	inLog    set    // those without a copy of their event
	from     uint8  // the id from which on the key is held; 0 when it is not
	handled  set
	replayed set

	// A window that is read, and not decided.
	read  bool
	found set
	next  cursor
	asked uint8 // only with DecideWhenRead: from, when it was read

	open  bool  // the breaker, for one of two topics: that of the first event and the fourth
	opens uint8 // how often it has opened

	again   bool // an event was handled twice
	crashes uint8
}

type phase uint8

const (
	unborn phase = iota
	running
	committed
	aborted
)

type cursor struct {
	after   uint8
	pending set
}

// taken is how many ids were handed out.
func (s *state) taken() (n int) {
	for n < events && s.phase[n] != unborn {
		n++
	}
	return n
}

func (s *state) in(p phase) (found set) {
	for n, is := range s.phase {
		if is == p {
			found.add(n)
		}
	}
	return found
}

// passed reports whether the cursor has an event behind it, for good.
func (c cursor) passed(n int) bool { return id(n) <= c.after && !c.pending.has(n) }

func id(n int) uint8 { return uint8(n + 1) }
