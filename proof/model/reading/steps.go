package reading

// The steps. A statement is more than one of them where others may come between its parts.

// ---- publishers: outbox.events, its first two columns ----

// takeXid gives a transaction its id, before any event: it has written something else.
func (m *model) takeXid(s state, p int, to func(state)) {
	if me := &s.publishers[p]; me.phase == running && me.xid == 0 {
		me.xid = s.newXid()
		to(s)
	}
}

// beginInsert evaluates the first default: column xid. With IDFirst, it is the id.
func (m *model) beginInsert(s state, p int, to func(state)) {
	me := &s.publishers[p]
	if me.phase != running || me.inserted == m.size.Inserts {
		return
	}
	me.phase = half
	if m.broken == IDFirst {
		m.takeID(&s, p)
	} else if me.xid == 0 {
		me.xid = s.newXid()
	}
	to(s)
}

// endInsert evaluates the second.
func (m *model) endInsert(s state, p int, to func(state)) {
	me := &s.publishers[p]
	if me.phase != half {
		return
	}
	if m.broken != IDFirst {
		m.takeID(&s, p)
	} else if me.xid == 0 {
		me.xid = s.newXid()
	}
	me.phase = running
	me.inserted++
	to(s)
}

// takeID is the sequence, which caches nothing. With CachedIDs, a session takes two at a time.
func (m *model) takeID(s *state, p int) {
	me := &s.publishers[p]
	id := me.cached
	if me.cached = 0; id == 0 {
		if id = s.newID(); m.broken == CachedIDs {
			me.cached = s.newID()
		}
	}
	me.ids[me.inserted], me.before[me.inserted] = id, s.visible()
}

// end commits or rolls back.
func (m *model) end(s state, p int, as phase, to func(state)) {
	me := &s.publishers[p]
	if me.phase != running || me.xid == 0 {
		return
	}
	me.phase = as
	s.completed = max(s.completed, me.xid)
	if me.cached = 0; as == aborted {
		me.inserted, me.ids, me.before = 0, [inserts]uint8{}, [inserts]set{}
	}
	to(s)
}

// ---- the reader: engine.Member.Read and readSQL ----

// takeEarly is EarlyXid's: the transaction has written before it reads.
func (m *model) takeEarly(s state, to func(state)) {
	me := &s.reader
	if m.broken == EarlyXid && me.step == between && me.reads < m.size.Reads {
		me.step, me.next = early, s.newXid()
		to(s)
	}
}

// look takes the statement's snapshot. It lists the running transactions below xmax, which is the latest completed one plus one.
func (m *model) look(s state, to func(state)) {
	me := &s.reader
	switch {
	case m.broken == EarlyXid && me.step != early, m.broken != EarlyXid && me.step != between, me.reads == m.size.Reads:
		return
	}
	me.step, me.sees, me.xmax = looked, s.visible(), s.completed+1
	for _, it := range s.publishers {
		if it.xid != 0 && it.xid < me.xmax && it.phase != committed && it.phase != aborted {
			me.xip.add(it.xid)
		}
	}
	if me.next != 0 && me.next < me.xmax {
		me.xip.add(me.next)
	}
	to(s)
}

// measure reads the head of the log: the last id that was taken. With LateHead, that comes after the transaction id; with HeadAhead,
// it may be one too many.
func (m *model) measure(s state, to func(state)) {
	me := &s.reader
	if me.step != looked {
		return
	}
	if me.step = measured; m.broken == LateHead {
		me.next = s.newXid()
	} else {
		me.head = s.nextID - 1
	}
	to(s)
	if m.broken == HeadAhead {
		me.head++
		to(s)
	}
}

// finish takes the transaction id, if there is anything beyond the cursor, and moves that: cursor.advance. The window has
// all that the snapshot sees, or only the first of the new events.
func (m *model) finish(s state, cut bool, to func(state)) {
	me := &s.reader
	if me.step != measured {
		return
	}
	if m.broken == LateHead {
		me.head = s.nextID - 1
	} else if me.next == 0 && me.head > me.after {
		me.next = s.newXid()
	}
	last, left := me.head, false
	first := uint8(0) // the first new event's id
	for _, id := range s.ids(me.sees) {
		if id > me.after && (first == 0 || id < first) {
			first = id
		}
	}
	if cut && first != 0 {
		last = first
	}
	for e, id := range s.ids(me.sees) {
		switch {
		case id == 0:
		case id > me.after && id > last:
			left = true
		case id > me.after || me.pending.has(s.publishers[e/inserts].xid):
			s.again = s.again || me.read.has(uint8(e))
			me.read.add(uint8(e))
		}
	}
	if cut && !left {
		return // it is the step that is not cut
	}
	unseen := func(below uint8) (set set) {
		for x := uint8(1); x < below; x++ {
			if me.xip.has(x) || x >= me.xmax && m.broken != XipOnly {
				set.add(x)
			}
		}
		return set
	}
	if me.next == 0 {
		me.pending &= unseen(s.nextXid)
	} else {
		me.pending, me.after = unseen(me.next), max(me.after, last)
		s.completed = max(s.completed, me.next)
	}
	me.reads++
	me.step, me.sees, me.xip, me.xmax, me.head, me.next = between, 0, 0, 0, 0, 0
	to(s)
}

// ids returns the ids of some events, by their number; 0 for others.
func (s *state) ids(of set) (ids [publishers * inserts]uint8) {
	for p, it := range s.publishers {
		for n := range inserts {
			if of.has(event(p, n)) {
				ids[event(p, n)] = it.ids[n]
			}
		}
	}
	return ids
}
