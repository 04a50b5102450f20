package explore

import (
	"slices"
	"testing"
)

// jugs are the three and the five litres that have to become four: a puzzle whose shortest solution takes six steps.
type jugs struct{ three, five int }

func pouring() Model[jugs] {
	step := func(does string, change func(jugs) jugs) Action[jugs] {
		return Action[jugs]{Actor: "somebody", Does: does, Next: func(s jugs, to func(jugs)) { to(change(s)) }}
	}
	return Model[jugs]{Actions: []Action[jugs]{
		step("fills three", func(s jugs) jugs { return jugs{3, s.five} }),
		step("fills five", func(s jugs) jugs { return jugs{s.three, 5} }),
		step("empties three", func(s jugs) jugs { return jugs{0, s.five} }),
		step("empties five", func(s jugs) jugs { return jugs{s.three, 0} }),
		step("pours three into five", func(s jugs) jugs { n := min(s.three, 5-s.five); return jugs{s.three - n, s.five + n} }),
		step("pours five into three", func(s jugs) jugs { n := min(s.five, 3-s.three); return jugs{s.three + n, s.five - n} }),
	}}
}

func TestShortestTrace(t *testing.T) {
	t.Parallel()
	m := pouring()
	m.Always = []Always[jugs]{{Name: "never four", Holds: func(s jugs) bool { return s.five != 4 }}}
	want := []string{
		"somebody fills five", "somebody pours five into three", "somebody empties three",
		"somebody pours five into three", "somebody fills five", "somebody pours five into three",
	}
	got := Run(m).Counterexample
	if got == nil || got.Property != "never four" || !slices.Equal(got.Steps, want) {
		t.Errorf("got %v", got)
	}
}

func TestAllStates(t *testing.T) {
	t.Parallel()
	r := Run(pouring())
	// One of the two jugs is always full or empty: 16 states of the 24.
	if r.States != 16 || r.Counterexample != nil {
		t.Errorf("got %+v, want 16 states and no counterexample", r)
	}
	if again := Run(pouring()); again.Transitions != r.Transitions || again.Depth != r.Depth {
		t.Errorf("another run found something else: %+v, %+v", r, again)
	}
}

// philosophers are two with two forks. Each takes that at its left, then the other, eats, and puts both back.
type philosophers struct {
	fork   [2]int8 // who has it: 1 or 2
	phases [2]int8
}

func table(polite bool) Model[philosophers] {
	var m Model[philosophers]
	for i := range 2 {
		who := string(rune('A' + i))
		first, second := i, 1-i
		if polite { // all begin with the same fork
			first, second = 0, 1
		}
		m.Actions = append(m.Actions,
			Action[philosophers]{who, "takes a fork", true, func(s philosophers, to func(philosophers)) {
				if s.phases[i] == 0 && s.fork[first] == 0 {
					s.phases[i], s.fork[first] = 1, int8(i+1)
					to(s)
				}
			}},
			Action[philosophers]{who, "takes the other fork", true, func(s philosophers, to func(philosophers)) {
				if s.phases[i] == 1 && s.fork[second] == 0 {
					s.phases[i], s.fork[second] = 2, int8(i+1)
					to(s)
				}
			}},
			Action[philosophers]{who, "has eaten", true, func(s philosophers, to func(philosophers)) {
				if s.phases[i] == 2 {
					s.phases[i], s.fork = 0, [2]int8{}
					to(s)
				}
			}},
		)
	}
	return m
}

func hungry(i int) Eventually[philosophers] {
	return Eventually[philosophers]{Name: "eats", Waits: func(s philosophers) bool { return s.phases[i] == 1 }}
}

func TestDeadlock(t *testing.T) {
	t.Parallel()
	m := table(false)
	m.Eventually = []Eventually[philosophers]{hungry(0)}
	got := Run(m).Counterexample
	if got == nil || !got.Stuck || !slices.Equal(got.Steps, []string{"A takes a fork", "B takes a fork"}) {
		t.Errorf("got %v, want that both take a fork", got)
	}
	m = table(true)
	m.Eventually = []Eventually[philosophers]{hungry(0), hungry(1)}
	if got := Run(m).Counterexample; got != nil {
		t.Errorf("polite ones: got %v", got)
	}
}

func TestFree(t *testing.T) {
	t.Parallel()
	m := table(false)
	m.Free = []Free[philosophers]{{Name: "never waits", Actor: "A", Where: func(s philosophers) bool { return s.phases[0] == 1 }}}
	got := Run(m).Counterexample
	if got == nil || got.Property != "never waits" || len(got.Steps) != 2 {
		t.Errorf("got %v, want A to wait for its second fork after two steps", got)
	}
}

// lights are two that somebody switches, and a bulb that may be put in.
type lights struct{ on, bulb bool }

func room(fair bool) Model[lights] {
	return Model[lights]{
		Actions: []Action[lights]{
			{"somebody", "switches", true, func(s lights, to func(lights)) { s.on = !s.on; to(s) }},
			{"the caretaker", "puts a bulb in", fair, func(s lights, to func(lights)) { s.bulb = true; to(s) }},
		},
		Eventually: []Eventually[lights]{{Name: "there is light", Waits: func(s lights) bool { return !s.bulb }}},
	}
}

func TestLivelock(t *testing.T) {
	t.Parallel()
	got := Run(room(false)).Counterexample
	if got == nil || got.Stuck || len(got.Steps) != 0 || !slices.Equal(got.Loop, []string{"somebody switches", "somebody switches"}) {
		t.Errorf("without fairness: got %v, want switching for ever", got)
	}
	if got := Run(room(true)).Counterexample; got != nil {
		t.Errorf("with fairness: got %v", got)
	}
}

// TestWeakFairness has an action that can be taken only every other step: weak fairness does not promise it.
func TestWeakFairness(t *testing.T) {
	t.Parallel()
	m := room(true)
	m.Actions[1].Next = func(s lights, to func(lights)) {
		if s.on {
			s.bulb = true
			to(s)
		}
	}
	if got := Run(m).Counterexample; got == nil || len(got.Loop) == 0 {
		t.Errorf("got %v, want switching for ever", got)
	}
}
