package settling

import (
	"fmt"

	"github.com/signalbox-go/signalbox/proof/model/explore"
)

// How much there is: events of each subscription, of which a transactional one wants the first, the third and so on.
const (
	subscriptions = 2
	events        = 4
)

func wanted(event uint8) bool { return event%2 == 1 }

// A state of what is recorded, and of the worker.
type state struct {
	subs   [subscriptions]sub
	leader uint8                // the subscription that records, plus one; 0 while none does
	takes  [subscriptions]uint8 // the cursors that it records, plus one
	deaths uint8
}

type sub struct {
	// In the database.
	cursor  uint8
	back    bool          // it has gone back
	effects [events]uint8 // of a transactional handler, by event

	// In the worker.
	phase   phase
	passed  uint8 // events that are handled, or not wanted
	offered uint8 // a cursor plus one
	writing bool  // another one records what is offered
	ever    uint8 // events that were handled, in any life
}

type phase uint8

const (
	asleep   phase = iota
	handling       // the next event
	recording
)

// Broken is what is left out of the protocol, or done wrong.
type Broken int

// What the explorer has to find fault with.
const (
	Nothing Broken = iota
	// OfferRunning offers a window while its handlers run.
	OfferRunning
	// NoWait has a runner go on while another one records what it has offered.
	NoWait
)

// The properties.
const (
	NotSkipped = "no cursor is past an event that was not handled"
	Once       = "an effect is recorded once"
	Forward    = "no cursor goes back"
)

// A Size says how often the worker may die.
type Size struct{ Deaths uint8 }

type model struct {
	broken Broken
	size   Size
}

// Spec returns the model, broken or not.
func Spec(broken Broken, size Size) explore.Model[state] {
	m := &model{broken, size}
	spec := explore.Model[state]{}
	for i := range subscriptions {
		actor := []string{"the transactional subscription", "the other subscription"}[i]
		step := func(does string, do func(s state, i int, to func(state))) {
			spec.Actions = append(spec.Actions, explore.Action[state]{Actor: actor, Does: does, Next: func(s state, to func(state)) { do(s, i, to) }})
		}
		step("wakes up, takes back what it has offered, and has an event to handle", m.wake)
		step("has handled its event", m.finish)
		step("passes an event of another topic", m.pass)
		step("begins to record what it owes, with all that is offered", m.begin)
		step("has recorded it", func(s state, i int, to func(state)) { m.end(s, i, true, to) })
		step("fails to record it", func(s state, i int, to func(state)) { m.end(s, i, false, to) })
	}
	spec.Actions = append(spec.Actions, explore.Action[state]{Actor: "the worker", Does: "dies, and begins anew", Next: m.die})
	holds := func(name string, of func(sub) bool) {
		spec.Always = append(spec.Always, explore.Always[state]{Name: name, Holds: func(s state) bool { return of(s.subs[0]) && of(s.subs[1]) }})
	}
	holds(NotSkipped, func(s sub) bool { return s.cursor <= s.ever })
	holds(Once, func(s sub) bool {
		for _, n := range s.effects {
			if n > 1 {
				return false
			}
		}
		return true
	})
	holds(Forward, func(s sub) bool { return !s.back })
	return spec
}

// Checks lists what has to be explored: the protocol, and each broken one.
func Checks() []explore.Check {
	var checks []explore.Check
	add := func(broken Broken, what, breaks string) {
		size := Size{Deaths: 2}
		checks = append(checks, explore.Check{
			Model:  "settling",
			Size:   fmt.Sprintf("%d subscriptions, %d events, deaths: %d", subscriptions, events, size.Deaths),
			Broken: what, Breaks: breaks,
			Run: func() explore.Result { return explore.Run(Spec(broken, size)) },
		})
	}
	add(Nothing, "", "")
	add(OfferRunning, "a window is offered while its handlers run", NotSkipped)
	add(NoWait, "a subscription goes on while its progress is recorded by another", Forward)
	return checks
}
