package holds

import "github.com/signalbox-go/signalbox/proof/model/explore"

// Broken is what is left out of the protocol, or done wrong.
type Broken int

// What the explorer has to find fault with.
const (
	Nothing Broken = iota
	// HoldFromLate lets a late event begin a hold.
	HoldFromLate
	// HoldBelow lets a hold begin below a delivery of its own window.
	HoldBelow
	// LeaveLate leaves a late event that is below the hold to the hold.
	LeaveLate
	// DecideWhenRead decides about a window by the hold as it was when the window was read.
	DecideWhenRead
	// RefillPending makes deliveries of events that the cursor waits for.
	RefillPending
	// RefillAhead ends a refill at the cursor of a window that is not decided.
	RefillAhead
	// DropEarly ends a hold once its line is empty.
	DropEarly
	// ForgetHold takes a key for free once its line is empty, whether it is held or not.
	ForgetHold
	// DeleteHeld has retention delete what is held.
	DeleteHeld
	// ReplayHeld has a replay take what is held.
	ReplayHeld
	// DeleteCopy has retention delete an event of which a delivery has no copy.
	DeleteCopy
	// PassTopic takes a key for free whose deliveries wait for a topic that is away, where the event has another one.
	PassTopic
	// SkipTopic has the next of a line handled when the head waits for its topic.
	SkipTopic
	// DropTopic passes an event of a topic that is away, without a row.
	DropTopic
)

// The properties.
const (
	NotLost = "every committed event is handled, or has a row with a copy of it, or is in the log with a row, beyond the cursor, pending, or held"
	Once    = "no event is handled twice"
	InOrder = "an event is handled after those that were committed before it took its id"
)

// A Size says how much may happen.
type Size struct {
	Events  int // up to 5
	Replays int
	Crashes uint8
	Opens   uint8 // of the breaker
}

type model struct {
	broken Broken
	size   Size
}

// Spec returns the model, broken or not.
func Spec(broken Broken, size Size) explore.Model[state] {
	m := &model{broken, size}
	spec := explore.Model[state]{}
	add := func(actor, does string, next func(state, func(state))) {
		spec.Actions = append(spec.Actions, explore.Action[state]{Actor: actor, Does: does, Next: next})
	}
	add("a publisher", "takes an id", m.take)
	add("a publisher", "commits", func(s state, to func(state)) { m.end(s, committed, to) })
	add("a publisher", "rolls back", func(s state, to func(state)) { m.end(s, aborted, to) })
	add("the worker", "reads to the end of the lane", func(s state, to func(state)) { m.look(s, false, to) })
	add("the worker", "reads one new event", func(s state, to func(state)) { m.look(s, true, to) })
	add("the worker", "decides about the window, and settles it", m.decide)
	add("the worker", "handles the head of the line", m.work)
	add("the worker", "refills the line", m.refill)
	add("the worker", "dies", m.crash)
	add("the breaker", "opens for a topic", m.trip)
	add("the breaker", "closes", m.close)
	add("an operator", "replays an event", m.replay)
	add("the sentinel", "deletes the first event", m.trim)
	spec.Always = []explore.Always[state]{
		{Name: NotLost, Holds: notLost},
		{Name: Once, Holds: func(s state) bool { return !s.again }},
		{Name: InOrder, Holds: inOrder},
	}
	return spec
}

func notLost(s state) bool {
	for n := range events {
		switch {
		case s.phase[n] != committed, s.handled.has(n), s.rows.has(n) && !s.inLog.has(n):
		case !s.log.has(n):
			return false
		case s.rows.has(n):
		case s.cursor.passed(n) && (s.from == 0 || id(n) < s.from):
			return false
		}
	}
	return true
}

func inOrder(s state) bool {
	for n := range events {
		if s.handled.has(n) && s.before[n]&^s.handled != 0 {
			return false
		}
	}
	return true
}
