package reading

import (
	"fmt"

	"github.com/signalbox-go/signalbox/proof/model/explore"
)

// Broken is what is left out of the protocol, or done wrong.
type Broken int

// What the explorer has to find fault with.
const (
	Nothing Broken = iota
	// XipOnly takes for pending what the snapshot lists, and not what is at or above its xmax.
	XipOnly
	// IDFirst has the columns in the other order: an event takes its id before its transaction has one.
	IDFirst
	// CachedIDs has sessions take ids two at a time.
	CachedIDs
	// EarlyXid has the reader take its transaction id before its snapshot.
	EarlyXid
	// LateHead has the reader look at the sequence after it has taken its transaction id.
	LateHead
	// HeadAhead has the reader take the last id from the sequence's row, which may say more than was taken: see internal/engine/head.go.
	HeadAhead
)

// The properties.
const (
	NotLost = "every committed event is read, or beyond the cursor, or pending"
	Once    = "no event is read twice"
	InOrder = "an event is read after those that were committed before it took its id"
)

// A Size says how much may happen.
type Size struct {
	Publishers int   // with a transaction each: up to 3
	Inserts    uint8 // of each: 1 or 2
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
		first, second := "its transaction id", "its event's id"
		if broken == IDFirst {
			first, second = second, first
		}
		add(actor, "takes a transaction id", func(s state, to func(state)) { m.takeXid(s, p, to) })
		add(actor, "inserts an event: it has "+first, func(s state, to func(state)) { m.beginInsert(s, p, to) })
		add(actor, "inserts an event: it has "+second, func(s state, to func(state)) { m.endInsert(s, p, to) })
		add(actor, "commits", func(s state, to func(state)) { m.end(s, p, committed, to) })
		add(actor, "rolls back", func(s state, to func(state)) { m.end(s, p, aborted, to) })
	}
	head, done := "reads the last id that was taken", "takes its transaction id, and moves its cursor"
	switch broken {
	case LateHead:
		head, done = "takes its transaction id", "reads the last id that was taken, and moves its cursor"
	case EarlyXid:
		done = "moves its cursor"
	}
	add("the reader", "takes its transaction id", m.takeEarly)
	add("the reader", "takes its snapshot", m.look)
	add("the reader", head, m.measure)
	add("the reader", done+" to the end", func(s state, to func(state)) { m.finish(s, false, to) })
	add("the reader", done+" by one event", func(s state, to func(state)) { m.finish(s, true, to) })
	spec.Always = []explore.Always[state]{
		{Name: NotLost, Holds: notLost},
		{Name: Once, Holds: func(s state) bool { return !s.again }},
		{Name: InOrder, Holds: inOrder},
	}
	return spec
}

func notLost(s state) bool {
	visible := s.visible()
	for e, id := range s.ids(visible) {
		if id != 0 && !s.reader.read.has(uint8(e)) && id <= s.reader.after && !s.reader.pending.has(s.publishers[e/inserts].xid) {
			return false
		}
	}
	return true
}

func inOrder(s state) bool {
	for p, it := range s.publishers {
		for n := range inserts {
			if s.reader.read.has(event(p, n)) && it.before[n]&^s.reader.read != 0 {
				return false
			}
		}
	}
	return true
}
