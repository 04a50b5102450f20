package lanes

// How many there are. Each session is a membership under an id of its own; at most two of them serve at once.
const (
	sessions = 3
	lanes    = 2
	events   = 3
)

// Where the events are: the first two in one lane, the third in the other.
var (
	laneOf  = [events]int{0, 0, 1}
	placeOf = [events]uint8{1, 2, 1}
)

// A set of events, a bit for each.
type set uint8

func only(e int) set           { return 1 << e }
func (s set) has(e int) bool   { return s>>e&1 == 1 }
func (s set) first(e int) bool { return s&(only(e+1)-1) == only(e) }
func (s *set) add(e int)       { *s |= only(e) }
func (s *set) remove(e int)    { *s &^= only(e) }
func (s *set) move(e int, to *set) {
	s.remove(e)
	to.add(e)
}

// A state of the database and of everybody around it. The log is complete from the beginning, and its cursor is a number: what is
// late or pending is another model's.
type state struct {
	sessions [sessions]session
	lanes    [lanes]lane // outbox.lanes
	rows     [events]row // outbox.deliveries
	joined   uint8       // sessions so far
	recorded set         // delivered, says the database: what HandleTx writes is there just as often
	again    set         // more than once
	struck   [lanes]bool // the lane's last owner was evicted, and no window of it was settled since
	happened happened
}

// happened counts what may happen only so often.
type happened struct {
	faults   uint8 // deaths, evictions of the living, evictions that fail
	slips    uint8 // events that fail or are parked
	releases uint8
}

type lane struct {
	owner   owner
	after   uint8 // the cursor that counts while nobody owns it
	suspect bool
}

// An owner is a session's number plus one.
type owner uint8

const nobody owner = 0

type row struct {
	state rowState
	owner owner
}

type rowState uint8

const (
	none rowState = iota
	retrying
	running
)

// A session is a worker's membership: its rows in the database, and what its process has in memory.
type session struct {
	// In the database.
	member   bool          // it has its rows in outbox.workers and outbox.members
	progress [lanes]latest // its last row of outbox.progress for each lane
	eviction eviction
	snapshot [lanes]latest // only with OneStatement: of progress, as the eviction sees it

	// In its process.
	phase   phase
	dead    bool          // the process is gone; its last transaction may be under way
	cursor  [lanes]latest // of the lanes that it believes to own, as of the last settle
	suspect bool          // engine.Member.Suspect
	window  set           // what was read and is not settled
	todo    set           // events, of the window or with rows, whose handlers have yet to return
	done    set           // of these, those delivered …
	failed  set           // … and those that failed, neither settled
	parked  set           // handlers that go on without their window
}

// latest is a cursor plus one; 0 is none.
type latest uint8

func at(after uint8) latest   { return latest(after + 1) }
func (l latest) after() uint8 { return uint8(l - 1) }
func (l latest) known() bool  { return l != 0 }

type phase uint8

const (
	absent   phase = iota
	serving        // between two transactions
	writing        // has a window of suspect lanes, and is about to write it down
	settling       // in the transaction, past the fence
	noting         // the same, of a window that is written down
	over           // its process has left, and joins again under another id
)

type eviction uint8

const (
	unhurt  eviction = iota
	ordered          // only with OneStatement: the statement has its snapshot, and waits
	deleted          // its row is deleted, in a transaction that has yet to fold and commit
)

func start() state { return state{} }

// free reports whether the process can begin something new: nothing that it has read or handled waits to be settled.
func (me *session) free() bool {
	return me.phase == serving && !me.dead && me.window|me.todo|me.done|me.failed == 0
}

// mayWrite is outbox.fence: the session's row is there, and no eviction has locked it.
func (m *model) mayWrite(me *session) bool {
	return m.broken == NoFence || me.member && me.eviction != deleted
}

// forget empties a process's memory.
func (me *session) forget() {
	me.phase, me.dead, me.suspect = over, false, false
	me.cursor = [lanes]latest{}
	me.window, me.todo, me.done, me.failed, me.parked = 0, 0, 0, 0, 0
}

// reaches is where a lane's cursor stands after the window.
func (me *session) reaches(l int) latest {
	to := me.cursor[l]
	for e := range events {
		if laneOf[e] == l && me.window.has(e) {
			to = max(to, at(placeOf[e]))
		}
	}
	return to
}

// record notes that an event was delivered, for good.
func (s *state) record(e int) {
	if s.recorded.has(e) {
		s.again.add(e)
	}
	s.recorded.add(e)
}

// passed reports whether a lane's cursor, as the database has it, is behind an event.
func (s *state) passed(e int) bool {
	l := s.lanes[laneOf[e]]
	after := l.after
	if l.owner != nobody {
		if p := s.sessions[l.owner-1].progress[laneOf[e]]; p.known() {
			after = p.after()
		}
	}
	return after >= placeOf[e]
}
