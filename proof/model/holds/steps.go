package holds

// ---- publishers ----

func (m *model) take(s state, to func(state)) {
	if n := s.taken(); n < m.size.Events {
		s.phase[n], s.before[n] = running, s.in(committed)
		to(s)
	}
}

func (m *model) end(s state, as phase, to func(state)) {
	for n := range events {
		if s.phase[n] == running {
			next := s
			if next.phase[n] = as; as == committed {
				next.log.add(n)
			}
			to(next)
		}
	}
}

// ---- the worker ----

// look reads a window: late events and new ones, to the end or only the first: engine.Member.Read.
func (m *model) look(s state, cut bool, to func(state)) {
	if s.read {
		return
	}
	s.read, s.found, s.asked = true, 0, s.from
	s.next = cursor{after: uint8(s.taken())}
	for n := range events {
		if !s.log.has(n) {
			continue
		}
		isNew := id(n) > s.cursor.after
		if cut && isNew && id(n) < s.next.after {
			s.next.after = id(n)
		}
		if s.cursor.pending.has(n) || isNew && id(n) <= s.next.after {
			s.found.add(n)
		}
	}
	for n := range s.in(running).all() {
		if id(n) <= s.next.after {
			s.next.pending.add(n)
		}
	}
	if s.next != s.cursor || s.found != 0 {
		to(s)
	}
}

// decide decides about a window, and settles it: runner.jobs and runner.record. Before any handler runs, it puts off what waits for its topic, and what is behind
// that or behind a delivery; then the handlers of the others run, in order, and may succeed or fail.
func (m *model) decide(s state, to func(state)) {
	if !s.read {
		return
	}
	var jobs set
	last := -1
	for n := range s.found.all() {
		blocked, away := m.blocked(&s, n), s.open && topical(n)
		switch {
		case !blocked && !away:
			jobs.add(n)
		case blocked || m.broken != DropTopic:
			m.putOff(&s, n, &last)
		}
	}
	m.handleFrom(0, jobs, last, s, to)
}

// handleFrom runs the handlers of the events of a window that nothing holds up, from one on.
func (m *model) handleFrom(n int, jobs set, last int, s state, to func(state)) {
	for n < events && !jobs.has(n) {
		n++
	}
	if n == events {
		s.cursor, s.read, s.found, s.next, s.asked = s.next, false, 0, cursor{}, 0
		to(s)
		return
	}
	failed := s
	failed.row(n)
	last = max(last, n)
	for behind := n + 1; behind < events; behind++ {
		if jobs.has(behind) {
			m.putOff(&failed, behind, &last)
		}
	}
	m.handleFrom(events, jobs, last, failed, to)
	s.handle(n)
	m.handleFrom(n+1, jobs, last, s, to)
}

// blocked reports whether an event waits behind others of its key.
func (m *model) blocked(s *state, n int) bool {
	if m.broken == PassTopic && s.open && !topical(n) && s.head() >= 0 && topical(s.head()) {
		return false
	}
	return s.rows != 0 || s.from != 0 && m.broken != ForgetHold
}

// putOff gives an event of a window its row, or leaves it to a hold: runner.putOff. last is the last one of the window that has a row.
func (m *model) putOff(s *state, n int, last *int) {
	from, isNew := s.from, id(n) > s.cursor.after
	if m.broken == DecideWhenRead && s.asked != 0 {
		from = s.asked
	}
	switch {
	case from != 0 && (id(n) >= from || m.broken == LeaveLate): // it is left in the log
	case from == 0 && s.from == 0 && s.rows != 0 && (n > *last || m.broken == HoldBelow) && (isNew || m.broken == HoldFromLate):
		s.from = id(n)
	default:
		s.row(n)
		*last = max(*last, n)
	}
}

// row makes a delivery. With the first one, there are so many that further ones have no copy of their event.
func (s *state) row(n int) {
	if s.rows != 0 {
		s.inLog.add(n)
	}
	s.rows.add(n)
}

// head is the first of the line, or -1.
func (s *state) head() int {
	for n := range s.rows.all() {
		return n
	}
	return -1
}

// topical reports whether an event has the topic that the breaker may open for.
func topical(n int) bool { return n%3 == 0 }

func (s *state) handle(n int) {
	s.again = s.again || s.handled.has(n) && !s.replayed.has(n)
	s.handled.add(n)
}

// work handles the head of the line. That it may fail, and come again, changes nothing. While the breaker is open for its topic, it waits; a
// probe is as if that had closed before. A delivery without a copy takes the event from the log.
func (m *model) work(s state, to func(state)) {
	for n := range s.rows.all() {
		if s.open && topical(n) {
			if m.broken == SkipTopic {
				continue
			}
			return
		}
		if s.inLog.has(n) && !s.log.has(n) {
			return
		}
		s.handle(n)
		s.rows.drop(n)
		s.inLog.drop(n)
		if m.broken == DropEarly && s.rows == 0 {
			s.from = 0
		}
		to(s)
		return
	}
}

// refill takes the first event from the log that is held, and moves the hold: engine.Member.Refill.
func (m *model) refill(s state, to func(state)) {
	if s.from == 0 || s.rows != 0 {
		return
	}
	at := s.cursor
	if m.broken == RefillAhead && s.read {
		at = s.next
	}
	took, from := false, uint8(0)
	for n := range s.log.all() {
		if id(n) < s.from || id(n) > at.after || at.pending.has(n) && m.broken != RefillPending {
			continue
		}
		if took {
			from = id(n)
			break
		}
		took = true
		s.row(n)
	}
	s.from = from
	to(s)
}

// crash loses what is read and not decided.
func (m *model) crash(s state, to func(state)) {
	if s.read && s.crashes < m.size.Crashes {
		s.read, s.found, s.next, s.asked = false, 0, cursor{}, 0
		s.crashes++
		to(s)
	}
}

// trip opens the breaker for one of two topics: runner.openTopic.
func (m *model) trip(s state, to func(state)) {
	if !s.open && s.opens < m.size.Opens {
		s.open = true
		s.opens++
		to(s)
	}
}

// close has all of them tried again: runner.joinTopic.
func (m *model) close(s state, to func(state)) {
	if s.open {
		s.open = false
		to(s)
	}
}

// ---- beside it ----

// replay makes a delivery of an event that is settled: admin.Replay.
func (m *model) replay(s state, to func(state)) {
	if s.replayed.count() >= m.size.Replays {
		return
	}
	for n := range s.log.all() {
		held := s.from != 0 && id(n) >= s.from && m.broken != ReplayHeld
		if !s.cursor.passed(n) || held || s.rows.has(n) {
			continue
		}
		next := s
		next.rows.add(n)
		if next.handled.has(n) { // else it is a mistake, and no reason to handle it twice
			next.replayed.add(n)
		}
		to(next)
	}
}

// trim deletes the first event of the lane, if it is settled, and makes the copy of a delivery that has none: engine.Trim.
func (m *model) trim(s state, to func(state)) {
	for n := range s.log.all() {
		held := s.from != 0 && id(n) >= s.from && m.broken != DeleteHeld
		if s.cursor.passed(n) && !held {
			s.log.drop(n)
			if m.broken != DeleteCopy {
				s.inLog.drop(n)
			}
			to(s)
		}
		return
	}
}

func (s set) all() func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for n := range events {
			if s.has(n) && !yield(n) {
				return
			}
		}
	}
}

func (s set) count() (n int) {
	for range s.all() {
		n++
	}
	return n
}
