package topics

// The steps. Each says which code it mirrors.

func (m *model) takeID(s state, e int, to func(state)) {
	if s.events[e].id == 0 {
		s.events[e].id = s.nextID
		s.nextID++
		to(s)
	}
}

func (m *model) commit(s state, e int, to func(state)) {
	if s.events[e].id != 0 && !s.events[e].committed {
		s.events[e].committed = true
		to(s)
	}
}

// ask requests other topics: admin.SetTopics.
func (m *model) ask(s state, want topics, to func(state)) {
	if s.asked == 0 && s.topics != want && s.changes < m.size.Changes {
		s.asked = want
		s.changes++
		to(s)
	}
}

// change is engine.FinishTopics: nobody owns the lane, so its cursor is in the database. A back-fill gives a row to what the cursor has
// passed of the added topics.
func (m *model) change(s state, backfill bool, to func(state)) {
	if s.asked == 0 || s.owner >= 0 && m.broken != ChangeOwned {
		return
	}
	added := s.asked &^ s.topics
	if backfill && added == 0 {
		return
	}
	for e := range events {
		passed := s.passed(e) || m.broken == BackfillLate && s.events[e].committed && s.events[e].id <= s.after
		if backfill && passed && added&topicOf[e] != 0 && !s.events[e].delivered {
			s.events[e].promised = true
			s.deliver(e)
		}
	}
	s.topics, s.asked = s.asked, 0
	to(s)
}

// join takes the subscription's topics, or none if the worker does not know them all: engine.Member.Rejoin. It owns nothing.
func (m *model) join(s state, w int, to func(state)) {
	me := &s.workers[w]
	topics := s.topics
	if topics&^knows[w] != 0 && m.broken != UnknownServes {
		topics = 0
	}
	if int(s.owner) == w || me.topics == topics || m.broken == NoRejoin && me.topics != 0 {
		return
	}
	me.topics, me.saw = topics, false
	to(s)
}

// look is the snapshot of the statement that claims: claimSQL.
func (m *model) look(s state, w int, to func(state)) {
	me := &s.workers[w]
	if me.saw || me.topics == 0 || s.asked != 0 || me.topics != s.topics && m.broken != NoRejoin {
		return
	}
	me.saw = true
	to(s)
}

// claim takes the lane. What the snapshot saw may be over, so outbox.keep_claim looks again, while the lane is locked.
func (m *model) claim(s state, w int, to func(state)) {
	me := &s.workers[w]
	if !me.saw {
		return
	}
	me.saw = false
	if s.owner < 0 && (me.topics == s.topics || m.broken == LookOnce || m.broken == NoRejoin) {
		s.owner = int8(w)
	}
	to(s)
}

// read passes all that is committed, and remembers what is not: engine.Member.Read, and the settle.
func (m *model) read(s state, w int, to func(state)) {
	if int(s.owner) != w {
		return
	}
	for e := range events {
		it := &s.events[e]
		if it.id == 0 || s.passed(e) || !it.committed {
			continue
		}
		it.promised = s.topics&topicOf[e] != 0
		if s.workers[w].topics&topicOf[e] != 0 {
			s.misfit = s.misfit || knows[w]&topicOf[e] == 0
			s.deliver(e)
		}
	}
	s.after = s.nextID - 1
	for e, it := range s.events {
		s.pending[e] = it.id != 0 && !it.committed
	}
	to(s)
}

// release gives the lane back: engine.Member.Release.
func (m *model) release(s state, w int, to func(state)) {
	if int(s.owner) == w {
		s.owner = -1
		to(s)
	}
}

// die is a worker that dies or is evicted, and joins again.
func (m *model) die(s state, w int, to func(state)) {
	if s.deaths == m.size.Deaths || s.workers[w] == (worker{}) {
		return
	}
	s.deaths++
	if s.workers[w] = (worker{}); int(s.owner) == w {
		s.owner = -1
	}
	to(s)
}
