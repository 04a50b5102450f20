package difference

import (
	"fmt"

	"github.com/signalbox-go/signalbox/proof/model/explore"
)

// Broken is what is left out of the protocol, or done wrong.
type Broken int

// What the explorer has to find fault with.
const (
	Nothing Broken = iota
	// GivenSeen gives a member all that was found, also what its own snapshot had seen.
	GivenSeen
	// XmaxAlone takes the snapshot with the lowest xmax for the oldest, whatever is in progress.
	XmaxAlone
	// FullLoses moves the cursor of a member that has no room for its window, and drops that.
	FullLoses
	// CutStands has a member read together with others although its last read was cut.
	CutStands
	// KeepsSnapshot puts a window back and goes on from the snapshot that has seen it.
	KeepsSnapshot
	// IDsAlone has a member take a page that was read at a cursor with its id, although the two wait for different transactions.
	IDsAlone
)

// The properties.
const (
	NotLost = "every committed event is read by each member, or beyond its cursor, or pending"
	Once    = "no event is read twice by a member"
	InOrder = "an event is read after those that were committed before it took its id"
)

// A Size says how much may happen.
type Size struct {
	Publishers int // with a transaction and an event each: up to 3
	Reads      uint8
}

type model struct {
	broken Broken
	size   Size
}

// Spec returns the model, broken or not.
func Spec(broken Broken, size Size) explore.Model[state] {
	m := &model{broken, size}
	spec := explore.Model[state]{Start: start()}
	add := func(actor, does string, next func(state, func(state))) {
		spec.Actions = append(spec.Actions, explore.Action[state]{Actor: actor, Does: does, Next: next})
	}
	for p := range size.Publishers {
		actor := fmt.Sprintf("publisher %c", 'A'+p)
		add(actor, "takes a transaction id", func(s state, to func(state)) { m.takeXid(s, p, to) })
		add(actor, "inserts an event", func(s state, to func(state)) { m.insert(s, p, to) })
		add(actor, "commits", func(s state, to func(state)) { m.end(s, p, committed, to) })
		add(actor, "rolls back", func(s state, to func(state)) { m.end(s, p, aborted, to) })
	}
	for i, by := range []who{first, second} {
		actor := fmt.Sprintf("member %d", i+1)
		add(actor, "begins to read by lanes", func(s state, to func(state)) { m.look(s, by, to) })
		add(actor, "has read to the end", func(s state, to func(state)) { m.readLane(s, i, by, false, to) })
		add(actor, "has read one event", func(s state, to func(state)) { m.readLane(s, i, by, true, to) })
		add(actor, "takes what was read before", func(s state, to func(state)) { m.takePage(s, i, by, to) })
		add(actor, "puts its window back", func(s state, to func(state)) { m.putBack(s, i, to) })
	}
	add("the reader", "begins to read for those at the end", func(s state, to func(state)) { m.look(s, together, to) })
	add("the reader", "has read the difference", func(s state, to func(state)) { m.readTogether(s, none, to) })
	for i := range members {
		add("the reader", fmt.Sprintf("has read the difference, for which member %d has no room", i+1), func(s state, to func(state)) { m.readTogether(s, i, to) })
	}
	spec.Always = []explore.Always[state]{
		{Name: NotLost, Holds: notLost},
		{Name: Once, Holds: func(s state) bool { return !s.again }},
		{Name: InOrder, Holds: inOrder},
	}
	return spec
}

func notLost(s state) bool {
	visible := s.visible()
	for _, me := range s.members {
		for p, it := range s.publishers {
			if visible.has(uint8(p)) && !me.read.has(uint8(p)) && it.id <= me.after && !me.pending.has(it.xid) {
				return false
			}
		}
	}
	return true
}

func inOrder(s state) bool {
	for _, me := range s.members {
		for p, it := range s.publishers {
			if me.read.has(uint8(p)) && it.before&^me.read != 0 {
				return false
			}
		}
	}
	return true
}
