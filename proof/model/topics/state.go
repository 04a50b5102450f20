package topics

const (
	events  = 3
	workers = 2
	// The worker of the old binary knows the first topic, that of the new one both.
	oldBinary = 0
)

// topicOf says of which topic each event is: the first was always the subscription's, the second is added.
var topicOf = [events]topics{first, second, second}

// A set of topics, a bit for each. No worker has none but one that has yet to join, or leaves lanes to others.
type topics uint8

const (
	first  topics = 1
	second topics = 2
	both          = first | second
)

var knows = [workers]topics{first, both}

// A state of the database and of the workers.
type state struct {
	events  [events]event
	nextID  uint8
	topics  topics // of outbox.subscriptions
	asked   topics // topics_to; none while no change waits
	owner   int8   // of the lane; -1 is nobody
	after   uint8  // its cursor
	pending [events]bool
	workers [workers]worker

	changes, deaths uint8
	twice, misfit   bool
}

// An event has a transaction of its own.
type event struct {
	id        uint8 // 0 before it was taken
	committed bool
	delivered bool
	promised  bool // when the cursor passed it, it was of the subscription's topics; or it was back-filled
}

type worker struct {
	topics topics // that it reads with, by its row in outbox.members; none before it has joined, and where it does not know them all
	saw    bool   // it is about to claim: its statement's snapshot saw no change waiting, and the topics that it reads with
}

func start() state { return state{nextID: 1, topics: first, owner: -1} }

// passed reports whether the cursor is behind an event for good.
func (s *state) passed(e int) bool {
	it := s.events[e]
	return it.committed && it.id <= s.after && !s.pending[e]
}

func (s *state) deliver(e int) {
	s.twice = s.twice || s.events[e].delivered
	s.events[e].delivered = true
}
