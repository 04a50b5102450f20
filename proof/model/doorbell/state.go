package doorbell

// How many there are, of publishers and their transactions at most: see Size. Each sentinel is a worker that may have the role.
const (
	publishers   = 2
	transactions = 2
	sentinels    = 2
	workers      = 2
)

// A set of transactions, a bit for each. Those of publisher p are p*transactions and on.
type set uint8

// A state of the database and of everybody around it.
type state struct {
	publishers [publishers]publisher
	sentinels  [sentinels]sentinel
	workers    [workers]worker

	visible set // committed transactions, as a snapshot that is taken now sees them
	read    set // those whose events a worker has read

	role   session // who holds the lock of the sentinel's role (engine.LockSentinel)
	holder session // who holds the bell's lock exclusively (engine.LockBell)
	queue  uint8   // who waits for it, a bit for each session

	flag   bool  // only with FlagInTable: the row that says "notify"
	faults uint8 // how many may still happen
}

// A session is that of a sentinel, which may hold locks.
type session uint8

const nobody session = sentinels

func (s session) bit() uint8 { return 1 << s }

// A publisher is a client with a transaction that inserts into outbox.events, once or more often.
type publisher struct {
	phase    publisherPhase
	ended    uint8 // transactions so far
	shares   bool  // the bell's lock
	notifies bool  // when it commits
	stale    bool  // only with FlagInTable: its snapshot is older than the flag
}

type publisherPhase uint8

const (
	idle     publisherPhase = iota
	begun                   // its snapshot is taken. Only with FlagInTable: nothing else depends on it, at any isolation level
	waiting                 // for the lock. Only with WaitingPublisher
	inserted                // at least one event
	shown                   // committed: snapshots see it from now on. It has yet to give back its locks, and to notify
)

// A sentinel is a worker's session, as far as it has to do with the bell.
type sentinel struct {
	phase   sentinelPhase
	seen    set  // by the last look: engine.Bell.seen
	look    set  // taken, and not yet in seen
	stopped bool // its process is: it does nothing
	cut     bool // its connection with the bell's lock is gone, and it does not know
}

type sentinelPhase uint8

const (
	standby   sentinelPhase = iota // would like the role
	elected                        // has it, and others have lost the bell's lock
	based                          // has its first look
	polling                        // looks for itself
	arming                         // looks for itself, and has asked for the lock
	late                           // the request timed out when it had just been granted
	granted                        // the lock; one more look is due
	armed                          // sleeps: publishers notify
	disarming                      // has looked, and is about to unlock
	unlocked                       // only with LookAfterUnlock: has yet to look
)

// at reports whether a sentinel is in one of the phases and can do something.
func (s *sentinel) at(phases ...sentinelPhase) bool {
	for _, phase := range phases {
		if s.phase == phase {
			return !s.stopped
		}
	}
	return false
}

// A worker is whoever serves a lane.
type worker struct {
	phase     workerPhase
	listening bool
	rung      bool // has heard of something since it last began to read
}

type workerPhase uint8

const (
	gone    workerPhase = iota // it has no session
	asleep                     // until it is rung
	reading                    // has taken its snapshot. What that sees counts as read: the lanes' model is about the rest
)

func start() state {
	// The first sentinel is elected already: it makes no difference which of the two it is.
	s := state{role: 0, holder: nobody}
	s.sentinels[0].phase = elected
	for i := range s.workers {
		s.workers[i].phase = gone
	}
	return s
}

// transaction is the publisher's current one.
func (s *state) transaction(p int) set { return 1 << (p*transactions + int(s.publishers[p].ended)) }

// ofLane has the transactions that publish for the lane of a worker: the first of each publisher for that of the first worker, and so on.
func ofLane(w int) (lane set) {
	for p := range publishers {
		for n := range transactions {
			if n%workers == w {
				lane |= 1 << (p*transactions + n)
			}
		}
	}
	return lane
}

// ring wakes the workers whose lanes have something: a notification that is delivered.
func (s *state) ring(lanes set) {
	for w := range s.workers {
		if s.workers[w].listening && lanes&ofLane(w) != 0 {
			s.workers[w].rung = true
		}
	}
}

const everything = set(1<<(publishers*transactions) - 1)

// shared reports whether any publisher shares the bell's lock.
func (s *state) shared() bool {
	for p := range s.publishers {
		if s.publishers[p].shares {
			return true
		}
	}
	return false
}
