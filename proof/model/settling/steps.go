package settling

// wake takes back what is offered: worker.runner.takeBack. It waits for another one that records it.
func (m *model) wake(s state, i int, to func(state)) {
	me := &s.subs[i]
	if me.phase != asleep || me.passed == events || me.writing && m.broken != NoWait || i == 0 && !wanted(me.passed+1) {
		return
	}
	me.phase, me.offered = handling, 0
	if m.broken == OfferRunning {
		me.offered = me.passed + 1 + 1
	}
	to(s)
}

// finish is a handler that returns. A transactional one commits with its cursor, which is all that it owes: engine.Member.SettleTx. The
// other one owes its progress, and sleeps: worker.runner.offer.
func (m *model) finish(s state, i int, to func(state)) {
	me := &s.subs[i]
	if me.phase != handling {
		return
	}
	me.passed++
	me.ever = max(me.ever, me.passed)
	if me.phase = asleep; i == 0 {
		me.effects[me.passed-1]++
		me.record(me.passed)
		me.offered = 0
	} else {
		me.offered = me.passed + 1
	}
	to(s)
}

// pass is a window of a transactional subscription in which nothing is its.
func (m *model) pass(s state, i int, to func(state)) {
	me := &s.subs[i]
	if i != 0 || me.phase != asleep || me.passed == events || wanted(me.passed+1) || me.writing && m.broken != NoWait {
		return
	}
	me.passed++
	me.ever = max(me.ever, me.passed)
	me.offered = me.passed + 1
	to(s)
}

// begin takes what is offered: worker.runner.settleDue.
func (m *model) begin(s state, i int, to func(state)) {
	me := &s.subs[i]
	if s.leader != 0 || me.phase != asleep || me.offered == 0 || me.writing {
		return
	}
	s.leader, s.takes = uint8(i+1), [subscriptions]uint8{}
	for j := range s.subs {
		if s.subs[j].offered != 0 {
			s.takes[j] = s.subs[j].offered
			s.subs[j].writing = j != i
		}
	}
	me.phase = recording
	to(s)
}

// end is the commit, and what the others are told.
func (m *model) end(s state, i int, commits bool, to func(state)) {
	if s.leader != uint8(i+1) {
		return
	}
	for j := range s.subs {
		it := &s.subs[j]
		if s.takes[j] == 0 {
			continue
		}
		if commits {
			it.record(s.takes[j] - 1)
			if it.offered == s.takes[j] {
				it.offered = 0
			}
		}
		it.writing = false
	}
	s.subs[i].phase = asleep
	s.leader, s.takes = 0, [subscriptions]uint8{}
	to(s)
}

// record appends a row: the last one counts.
func (s *sub) record(cursor uint8) {
	s.back = s.back || cursor < s.cursor
	s.cursor = cursor
}

// die empties the worker's memory. What it was recording was not recorded; else it would have died after that.
func (m *model) die(s state, to func(state)) {
	if s.deaths == m.size.Deaths {
		return
	}
	s.deaths++
	s.leader, s.takes = 0, [subscriptions]uint8{}
	for i := range s.subs {
		it := &s.subs[i]
		it.phase, it.passed, it.offered, it.writing = asleep, it.cursor, 0, false
	}
	to(s)
}
