package difference

// ---- publishers ----

// takeXid gives a transaction its id, before its event: it has written something else.
func (m *model) takeXid(s state, p int, to func(state)) {
	if me := &s.publishers[p]; me.phase == running && me.xid == 0 {
		me.xid = s.newXid()
		to(s)
	}
}

func (m *model) insert(s state, p int, to func(state)) {
	me := &s.publishers[p]
	if me.phase != running || me.id != 0 {
		return
	}
	if me.xid == 0 {
		me.xid = s.newXid()
	}
	me.id, me.before = s.nextID, s.visible()
	s.nextID++
	to(s)
}

func (m *model) end(s state, p int, as phase, to func(state)) {
	me := &s.publishers[p]
	if me.phase != running || me.xid == 0 {
		return
	}
	if me.phase = as; as == aborted {
		me.id, me.before = 0, 0
	}
	s.completed = max(s.completed, me.xid)
	to(s)
}

func (s *state) newXid() uint8 {
	s.nextXid++
	return s.nextXid - 1
}

// ---- reading: engine.Member.Read, engine.ReadDifference and engine.Member.Move ----

// none is no member.
const none = -1

// look takes the statement's snapshot. One connection reads for all: so there is one read at a time.
func (m *model) look(s state, by who, to func(state)) {
	if s.read.who != nobody || s.reads == m.size.Reads || by == together && !s.members[0].atEnd && !s.members[1].atEnd {
		return
	}
	s.reads++
	s.read = read{who: by, taken: snapshot{xmax: s.completed + 1}, sees: s.visible()}
	for _, it := range s.publishers {
		if it.xid != 0 && it.xid < s.read.taken.xmax && it.phase == running {
			s.read.taken.xip.add(it.xid)
		}
	}
	to(s)
}

// readLane moves the cursor of one member: advance. The window has all that the snapshot sees, or only the first of the new events.
func (m *model) readLane(s state, i int, by who, cut bool, to func(state)) {
	if s.read.who != by {
		return
	}
	me, head := &s.members[i], s.nextID-1
	next := uint8(0)
	if head > me.after {
		next = s.newXid()
	}
	last, left := head, false
	var found uint8 // the first new event's id
	for p, it := range s.publishers {
		if s.read.sees.has(uint8(p)) && it.id > me.after && (found == 0 || it.id < found) {
			found = it.id
		}
	}
	if cut && found != 0 {
		last = found
	}
	before := me.place
	var gives set
	for p, it := range s.publishers {
		switch {
		case !s.read.sees.has(uint8(p)):
		case it.id > me.after && it.id > last:
			left = true
		case it.id > me.after || me.pending.has(it.xid):
			s.give(me, p)
			gives.add(uint8(p))
		}
	}
	if cut && !left {
		return // it is the step that is not cut
	}
	s.move(me, before, last, next)
	if me.atEnd = !cut || m.broken == CutStands; !me.atEnd {
		me.seen = snapshot{}
	}
	s.endRead(next)
	to(s)
	s.page = page{true, before.after, before.pending, gives, me.place}
	s.page.to.read = 0
	to(s)
}

// takePage moves the cursor of a member that stands where a page begins, as if it had read that: engine.Member.takePage.
func (m *model) takePage(s state, i int, by who, to func(state)) {
	me := &s.members[i]
	if !s.page.kept || s.read.who == by || s.read.who == together || me.after != s.page.after || me.pending != s.page.pending && m.broken != IDsAlone {
		return
	}
	me.before, me.window = me.place, true
	for p := range s.publishers {
		if s.page.gives.has(uint8(p)) {
			s.give(me, p)
		}
	}
	read := me.read
	me.place = s.page.to
	me.read = read
	to(s)
}

// readTogether moves the cursors of all that stand at the end: each is given what its own snapshot did not see. One that has no room
// stays where it is, and has to read by lanes.
func (m *model) readTogether(s state, full int, to func(state)) {
	if s.read.who != together || full != none && !s.members[full].atEnd {
		return
	}
	var oldest *member
	least := uint8(0)
	for i := range s.members {
		me := &s.members[i]
		if !me.atEnd {
			continue
		}
		if oldest == nil {
			oldest, least = me, me.after
		}
		if m.older(me.seen, oldest.seen) {
			oldest = me
		}
		least = min(least, me.after)
	}
	from, head, next := oldest.seen, s.nextID-1, uint8(0)
	if head > least {
		next = s.newXid()
	}
	for i := range s.members {
		me := &s.members[i]
		if !me.atEnd {
			continue
		}
		if i == full && m.broken != FullLoses {
			me.atEnd, me.seen = false, snapshot{}
			continue
		}
		before := me.place
		for p, it := range s.publishers {
			if i != full && s.read.sees.has(uint8(p)) && !from.sees(it.xid) && (!me.seen.sees(it.xid) || m.broken == GivenSeen) {
				s.give(me, p)
			}
		}
		s.move(me, before, head, next)
	}
	s.endRead(next)
	to(s)
}

// older is that of snapshots.
func (m *model) older(a, b snapshot) bool {
	return a.xmax < b.xmax || a.xmax == b.xmax && a.xip.len() > b.xip.len() && m.broken != XmaxAlone
}

// putBack undoes a member's last read, whose window it has not begun to handle.
func (m *model) putBack(s state, i int, to func(state)) {
	me := &s.members[i]
	if !me.window || s.read.who != nobody {
		return
	}
	atEnd, seen := me.atEnd, me.seen
	if me.place = me.before; m.broken == KeepsSnapshot {
		me.atEnd, me.seen = atEnd, seen
	}
	me.window, me.before = false, place{}
	to(s)
}

func (s *state) give(me *member, p int) {
	s.again = s.again || me.read.has(uint8(p))
	me.read.add(uint8(p))
}

// move is advance: the cursor passes what was read.
func (s *state) move(me *member, before place, last, next uint8) {
	if me.before, me.window = before, true; next == 0 {
		me.pending &= s.read.taken.unseen(s.nextXid)
	} else {
		me.pending, me.after = s.read.taken.unseen(next), max(me.after, last)
	}
	me.seen = s.read.taken
}

func (s *state) endRead(next uint8) {
	s.completed = max(s.completed, next)
	s.read = read{}
}
