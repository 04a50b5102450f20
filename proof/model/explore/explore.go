package explore

import (
	"fmt"
	"strings"
	"time"
)

// A Model is what is checked. Its states must not hold pointers: they are compared.
type Model[S comparable] struct {
	Start      S
	Actions    []Action[S] // up to 255
	Always     []Always[S]
	Free       []Free[S]
	Eventually []Eventually[S]
}

// An Action is one kind of step of one actor.
type Action[S comparable] struct {
	Actor, Does string // in words, for traces: "publisher 1", "commits"
	Fair        bool   // whether it is taken sooner or later if it can be from some point on
	// Next calls to with each state that the step may lead to, and not at all where it cannot be taken.
	Next func(s S, to func(S))
}

// Always is a condition that holds in every state.
type Always[S comparable] struct {
	Name  string
	Holds func(S) bool
}

// Free says that an actor has a step to take wherever a condition holds.
type Free[S comparable] struct {
	Name, Actor string
	Where       func(S) bool
}

// Eventually says that what waits does not wait for ever.
type Eventually[S comparable] struct {
	Name  string
	Waits func(S) bool
}

// A Result is what a check found.
type Result struct {
	States, Transitions int
	Depth               int           // steps to the state that is farthest from the first
	Took                time.Duration // on this machine
	Counterexample      *Trace        // nil if all properties hold. What was not visited by then is not counted
}

// A Trace is a run that violates a property.
type Trace struct {
	Property string
	Steps    []string
	// Loop are the steps that repeat for ever after the others. Empty for a property that is violated by Steps alone.
	Loop []string
	// Stuck says that nothing need happen any more after Steps, while something still waits.
	Stuck bool
}

// maxStates keeps a model that was made too large from taking the machine's memory.
const maxStates = 20_000_000

// Run checks a model. It ends with the first violation, which is one of the shortest. A model with more states than fit is a mistake,
// and panics.
func Run[S comparable](m Model[S]) Result {
	start := time.Now()
	e := &explorer[S]{model: m, index: map[S]int32{}}
	trace := e.explore()
	if trace == nil {
		for _, property := range m.Eventually {
			if trace = e.lasso(property); trace != nil {
				break
			}
		}
	}
	return Result{States: len(e.states), Transitions: len(e.edges), Depth: e.depth, Took: time.Since(start), Counterexample: trace}
}

// An edge leads to a state, by an action.
type edge struct {
	to int32
	by uint8
}

type explorer[S comparable] struct {
	model  Model[S]
	index  map[S]int32 // of each state that was found
	states []S         // in the order in which they were found: by rising depth
	parent []edge      // how each was found first: to is where from
	edges  []edge      // of all states, one after the other
	first  []int       // of each state, in edges; and one more for the end
	depth  int
}

// explore visits all states, and returns a trace to the first that violates a property.
func (e *explorer[S]) explore() *Trace {
	if bad := e.find(e.model.Start, edge{to: -1}); bad != nil {
		return bad
	}
	var (
		bad     *Trace
		at, end = int32(0), int32(1) // of the current depth
		by      uint8
		from    S
	)
	visit := func(next S) {
		if next == from || bad != nil {
			return
		}
		to, known := e.index[next]
		if !known {
			to = int32(len(e.states))
			bad = e.find(next, edge{at, by})
		}
		e.edges = append(e.edges, edge{to, by})
	}
	for ; at < int32(len(e.states)); at++ {
		if at == end {
			e.depth, end = e.depth+1, int32(len(e.states))
		}
		from = e.states[at]
		e.first = append(e.first, len(e.edges))
		for i := range e.model.Actions {
			by = uint8(i)
			e.model.Actions[i].Next(from, visit)
		}
		if bad == nil {
			bad = e.blocked(at)
		}
		if bad != nil {
			return bad
		}
	}
	e.first = append(e.first, len(e.edges))
	return nil
}

// find adds a state, and checks it.
func (e *explorer[S]) find(s S, by edge) *Trace {
	at := int32(len(e.states))
	if at == maxStates {
		panic(fmt.Sprintf("explore: the model has more than %d states", maxStates))
	}
	e.index[s] = at
	e.states, e.parent = append(e.states, s), append(e.parent, by)
	for _, property := range e.model.Always {
		if !property.Holds(s) {
			return &Trace{Property: property.Name, Steps: e.path(at)}
		}
	}
	return nil
}

// blocked checks that actors have the steps in a state that they should, once all of its edges are known.
func (e *explorer[S]) blocked(at int32) *Trace {
	for _, property := range e.model.Free {
		if !property.Where(e.states[at]) {
			continue
		}
		free := false
		for _, edge := range e.edges[e.first[at]:] {
			free = free || e.model.Actions[edge.by].Actor == property.Actor
		}
		if !free {
			return &Trace{Property: property.Name, Steps: e.path(at)}
		}
	}
	return nil
}

// path returns the steps to a state, in words.
func (e *explorer[S]) path(at int32) []string {
	var steps []string
	for at > 0 {
		by := e.parent[at]
		steps = append([]string{e.words(by.by)}, steps...)
		at = by.to
	}
	return steps
}

func (e *explorer[S]) words(by uint8) string {
	a := e.model.Actions[by]
	return a.Actor + " " + a.Does
}

// String lists the steps of a trace, as Markdown.
func (t *Trace) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Violates: %s.\n\n", t.Property)
	for i, step := range t.Steps {
		fmt.Fprintf(&b, "%d. %s\n", i+1, step)
	}
	switch {
	case t.Stuck:
		b.WriteString("\nAnd so it stays for ever.\n")
	case len(t.Loop) > 0:
		b.WriteString("\nAnd for ever:\n\n")
		for _, step := range t.Loop {
			fmt.Fprintf(&b, "- %s\n", step)
		}
	}
	return b.String()
}
