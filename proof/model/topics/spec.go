package topics

import (
	"fmt"

	"github.com/signalbox-go/signalbox/proof/model/explore"
)

// Broken is what is left out of the protocol, or done wrong.
type Broken int

// What the explorer has to find fault with.
const (
	Nothing Broken = iota
	// ChangeOwned changes topics while a worker owns the lane.
	ChangeOwned
	// LookOnce claims without looking at the topics again.
	LookOnce
	// NoRejoin has workers read on with the topics that they joined with.
	NoRejoin
	// UnknownServes has workers serve topics that they do not know.
	UnknownServes
	// BackfillLate back-fills what the cursor still waits for.
	BackfillLate
)

// The properties.
const (
	AsPromised = "what the cursor has passed is delivered if, and only if, it was of the subscription's topics"
	Once       = "no event is delivered twice"
	Known      = "no worker is given an event of a topic that it does not know"
)

// A Size says how much may happen.
type Size struct {
	Changes uint8
	Deaths  uint8
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
	for e := range events {
		actor := fmt.Sprintf("publisher %c (topic %d)", 'A'+e, topicOf[e])
		add(actor, "takes its event's id", func(s state, to func(state)) { m.takeID(s, e, to) })
		add(actor, "commits", func(s state, to func(state)) { m.commit(s, e, to) })
	}
	add("the operator", "asks for both topics", func(s state, to func(state)) { m.ask(s, both, to) })
	add("the operator", "asks for the first topic only", func(s state, to func(state)) { m.ask(s, first, to) })
	add("the change", "happens", func(s state, to func(state)) { m.change(s, false, to) })
	add("the change", "happens, with a back-fill", func(s state, to func(state)) { m.change(s, true, to) })
	for w := range workers {
		actor := "the new worker"
		if w == oldBinary {
			actor = "the old worker"
		}
		step := func(does string, do func(state, int, func(state))) {
			add(actor, does, func(s state, to func(state)) { do(s, w, to) })
		}
		step("joins, or takes the topics anew", m.join)
		step("begins to claim", m.look)
		step("claims", m.claim)
		step("reads", m.read)
		step("releases its lane", m.release)
		step("dies", m.die)
	}
	spec.Always = []explore.Always[state]{
		{Name: Once, Holds: func(s state) bool { return !s.twice }},
		{Name: Known, Holds: func(s state) bool { return !s.misfit }},
		{Name: AsPromised, Holds: func(s state) bool {
			for e, it := range s.events {
				if s.passed(e) && it.delivered != it.promised {
					return false
				}
			}
			return true
		}},
	}
	return spec
}
