package explore

// lasso looks for a fair run in which something waits for ever, and returns the one with the shortest way to where it stays.
func (e *explorer[S]) lasso(property Eventually[S]) *Trace {
	waits := make([]bool, len(e.states))
	for i, s := range e.states {
		waits[i] = property.Waits(s)
	}
	var worst []int32 // the set with the first entry
	entry := int32(len(e.states))
	for _, set := range e.components(waits) {
		first := set[0]
		for _, at := range set {
			first = min(first, at)
		}
		if first < entry && e.canStay(set) {
			worst, entry = set, first
		}
	}
	if worst == nil {
		return nil
	}
	loop := e.round(worst, entry)
	return &Trace{Property: property.Name, Steps: e.path(entry), Loop: loop, Stuck: len(loop) == 0}
}

// canStay reports whether a fair run can stay in a component.
func (e *explorer[S]) canStay(set []int32) bool {
	in := make(map[int32]bool, len(set))
	for _, at := range set {
		in[at] = true
	}
	var (
		taken   [256]bool // inside
		enabled [256]int  // in how many states
	)
	for _, at := range set {
		var here [256]bool
		for _, edge := range e.out(at) {
			taken[edge.by] = taken[edge.by] || in[edge.to]
			if !here[edge.by] {
				here[edge.by] = true
				enabled[edge.by]++
			}
		}
	}
	for i, action := range e.model.Actions {
		if action.Fair && enabled[i] == len(set) && !taken[i] {
			return false
		}
	}
	return true
}

func (e *explorer[S]) out(at int32) []edge { return e.edges[e.first[at]:e.first[at+1]] }

// round returns a way through a component and back to where it began that is fair to every action: on it, the action is taken, or is
// not there to be taken somewhere.
func (e *explorer[S]) round(set []int32, start int32) []string {
	in := make(map[int32]bool, len(set))
	for _, at := range set {
		in[at] = true
	}
	var steps []string
	at := start
	for i, action := range e.model.Actions {
		if !action.Fair {
			continue
		}
		idle := func(from int32) bool {
			for _, edge := range e.out(from) {
				if edge.by == uint8(i) {
					return false
				}
			}
			return true
		}
		more, end := e.walk(in, at, func(from int32) (edge, bool) {
			for _, edge := range e.out(from) {
				if edge.by == uint8(i) && in[edge.to] {
					return edge, true
				}
			}
			return edge{to: from}, idle(from)
		})
		steps, at = append(steps, more...), end
	}
	more, _ := e.walk(in, at, func(from int32) (edge, bool) { return edge{to: from}, from == start })
	return append(steps, more...)
}

// walk takes the shortest way inside a component to a state where done is true, and the step that it returns from there, if it
// leads elsewhere.
func (e *explorer[S]) walk(in map[int32]bool, start int32, done func(int32) (edge, bool)) (steps []string, end int32) {
	came := map[int32]edge{start: {to: -1}}
	for queue := []int32{start}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		last, ok := done(at)
		if ok {
			for back := came[at]; back.to >= 0; back = came[back.to] {
				steps = append([]string{e.words(back.by)}, steps...)
			}
			if last.to != at {
				steps = append(steps, e.words(last.by))
			}
			return steps, last.to
		}
		for _, next := range e.out(at) {
			if _, known := came[next.to]; in[next.to] && !known {
				came[next.to] = edge{at, next.by}
				queue = append(queue, next.to)
			}
		}
	}
	panic("explore: a component is not connected")
}

// components returns the strongly connected components of the part of the graph where something waits: Tarjan's
// algorithm, with a stack of its own instead of recursion.
func (e *explorer[S]) components(waits []bool) (sets [][]int32) {
	type frame struct {
		at   int32
		next int // in edges
	}
	var (
		count int32
		order = make([]int32, len(e.states)) // when it was first seen; 0 for not yet
		low   = make([]int32, len(e.states)) // the earliest that can be reached from it on the stack
		open  = make([]bool, len(e.states))  // whether it is on the stack
		stack []int32
		calls []frame
	)
	enter := func(at int32) {
		count++
		order[at], low[at], open[at] = count, count, true
		stack = append(stack, at)
		calls = append(calls, frame{at, e.first[at]})
	}
	for root := range e.states {
		if !waits[root] || order[root] != 0 {
			continue
		}
		for enter(int32(root)); len(calls) > 0; {
			f := &calls[len(calls)-1]
			if f.next < e.first[f.at+1] {
				to := e.edges[f.next].to
				f.next++
				switch {
				case !waits[to]:
				case order[to] == 0:
					enter(to)
				case open[to]:
					low[f.at] = min(low[f.at], order[to])
				}
				continue
			}
			at := f.at
			if calls = calls[:len(calls)-1]; len(calls) > 0 {
				caller := calls[len(calls)-1].at
				low[caller] = min(low[caller], low[at])
			}
			if low[at] != order[at] {
				continue
			}
			var set []int32
			for done := false; !done; {
				last := stack[len(stack)-1]
				stack = stack[:len(stack)-1]
				open[last], done = false, last == at
				set = append(set, last)
			}
			sets = append(sets, set)
		}
	}
	return sets
}
