package lanes

import (
	"fmt"

	"github.com/signalbox-go/signalbox/proof/model/explore"
)

// Broken is what is left out of the protocol, or done wrong.
type Broken int

// What the explorer has to find fault with.
const (
	Nothing Broken = iota
	// NoFence has workers settle, claim and release without looking for their row, or locking it.
	NoFence
	// NoFold frees the lanes of a dead worker with the cursors that they were claimed with.
	NoFold
	// OneStatement folds in the statement that deletes, with its snapshot.
	OneStatement
	// NoClaimRow claims lanes without a progress row.
	NoClaimRow
	// SettleEarly settles windows while their handlers run.
	SettleEarly
	// RowsFirst settles what becomes a delivery before the cursor, in a transaction of its own.
	RowsFirst
	// KeepRows has an eviction leave the deliveries that the worker was running.
	KeepRows
	// NoSuspects has an eviction free lanes as if nothing had happened in them.
	NoSuspects
	// IgnoreSuspects claims suspect lanes like others.
	IgnoreSuspects
)

// The properties.
const (
	InStep   = "an event is delivered or has a row if, and only if, its lane's cursor is past it"
	Once     = "no event is recorded as delivered twice"
	NoOrphan = "no delivery is run by a worker that is not there"
	Noted    = "what may have killed a worker has a row before it is handled again"
	AllDone  = "every event is delivered in the end"
)

// A Size says how much may happen, in all.
type Size struct {
	Faults   uint8 // at most 2, so that somebody is left
	Slips    uint8 // events that fail or are parked
	Releases uint8
}

type model struct {
	broken Broken
	size   Size
}

// Spec returns the model, broken or not.
func Spec(broken Broken, size Size) explore.Model[state] {
	m := &model{broken, size}
	spec := explore.Model[state]{Start: start()}
	for id := range sessions {
		actor := fmt.Sprintf("worker %c", 'A'+id)
		step := func(does string, fair bool, do func(state, int, func(state))) {
			spec.Actions = append(spec.Actions, explore.Action[state]{
				Actor: actor, Does: does, Fair: fair, Next: func(s state, to func(state)) { do(s, id, to) },
			})
		}
		// Whatever is not a fault, and not a choice that need not be made, happens sooner or later.
		step("joins", true, m.join)
		for n := 1; n <= lanes; n++ {
			step(fmt.Sprintf("claims %d of the free lanes", n), true, func(s state, id int, to func(state)) { m.claim(s, id, n, to) })
		}
		for l := range lanes {
			step(fmt.Sprintf("releases its lanes from %d on", l), false, func(s state, id int, to func(state)) { m.release(s, id, l, to) })
		}
		step("reads one event of each lane", true, func(s state, id int, to func(state)) { m.read(s, id, 1, to) })
		step("reads all events of its lanes", false, func(s state, id int, to func(state)) { m.read(s, id, events, to) })
		for e := range events {
			event := fmt.Sprintf("event %d of lane %d", placeOf[e], laneOf[e])
			of := func(do func(state, int, int, func(state))) func(state, int, func(state)) {
				return func(s state, id int, to func(state)) { do(s, id, e, to) }
			}
			step("claims the delivery of "+event, true, of(m.take))
			step("has handled "+event, true, of(m.deliver))
			step("fails to handle "+event, false, of(m.fail))
			step("parks "+event, false, of(m.park))
			step("has handled the parked "+event, true, of(m.unpark))
		}
		step("begins to settle, and is past the fence", true, m.fence)
		step("commits its settle", true, m.commit)
		step("dies", false, m.die)
		step("is dead, and its transaction is rolled back", false, m.rollBack)
		step("is dead: its eviction deletes its row", true, func(s state, id int, to func(state)) { m.evict(s, id, false, to) })
		step("is taken for dead: its eviction deletes its row", false, func(s state, id int, to func(state)) { m.evict(s, id, true, to) })
		step("is about to be evicted, says a statement with its snapshot", true, m.order)
		step("is evicted: its progress is folded, and its lanes are free", true, m.fold)
		step("is evicted in vain", false, m.giveUp)
		step("finds that it was evicted", true, m.notice)
	}
	spec.Always = []explore.Always[state]{
		{Name: Once, Holds: func(s state) bool { return s.again == 0 }},
		{Name: InStep, Holds: inStep},
		{Name: NoOrphan, Holds: noOrphan},
		{Name: Noted, Holds: noted},
	}
	for e := range events {
		spec.Eventually = append(spec.Eventually, explore.Eventually[state]{Name: AllDone, Waits: func(s state) bool { return !s.recorded.has(e) }})
	}
	return spec
}

// inStep says that cursors neither skip an event nor go back. Nor is one delivered that still has a row.
func inStep(s state) bool {
	for e := range events {
		row := s.rows[e].state != none
		if row && s.recorded.has(e) || s.passed(e) != (row || s.recorded.has(e)) {
			return false
		}
	}
	return true
}

func noOrphan(s state) bool {
	for _, r := range s.rows {
		if r.owner != nobody && !s.sessions[r.owner-1].member {
			return false
		}
	}
	return true
}

// noted says that the first window of a lane whose last owner was evicted is handled only once it has rows.
func noted(s state) bool {
	for e := range events {
		l := laneOf[e]
		if o := s.lanes[l].owner; o != nobody && s.struck[l] && s.sessions[o-1].todo.has(e) && s.rows[e].state == none {
			return false
		}
	}
	return true
}
