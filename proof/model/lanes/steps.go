package lanes

// The steps. Each says which code it mirrors. A transaction that goes over in one round trip is one step; a settle, which may have
// a handler's writes before it, is two, so that an eviction can come between its fence and its commit.

// join registers the next session: engine.Join.
func (m *model) join(s state, id int, to func(state)) {
	serves := 0
	for _, other := range s.sessions {
		if other.member && !other.dead {
			serves++
		}
	}
	if int(s.joined) == id && serves < 2 {
		s.joined++
		s.sessions[id].phase, s.sessions[id].member = serving, true
		to(s)
	}
}

// claim takes up to n lanes that nobody owns, and appends a progress row with their cursors: engine.Member.Claim.
func (m *model) claim(s state, id, n int, to func(state)) {
	me := &s.sessions[id]
	if !me.free() || !m.mayWrite(me) {
		return
	}
	claimed := 0
	for l := range s.lanes {
		lane := &s.lanes[l]
		if lane.owner != nobody || claimed == n {
			continue
		}
		claimed++
		lane.owner = owner(id + 1)
		me.cursor[l] = at(lane.after)
		if m.broken != NoClaimRow || !me.progress[l].known() {
			me.progress[l] = at(lane.after)
		}
	}
	if claimed < n {
		return // it is the step with a smaller n
	}
	me.suspect = false
	for _, lane := range s.lanes {
		me.suspect = me.suspect || lane.owner == owner(id+1) && lane.suspect && m.broken != IgnoreSuspects
	}
	to(s)
}

// release gives lanes back from the given one on, with their cursors: engine.Member.Release. Everything that was read is settled.
func (m *model) release(s state, id, from int, to func(state)) {
	me := &s.sessions[id]
	if !me.free() || !m.mayWrite(me) || !me.cursor[from].known() || s.happened.releases == m.size.Releases {
		return
	}
	s.happened.releases++
	for l := from; l < lanes; l++ {
		if me.cursor[l].known() {
			s.lanes[l].owner, s.lanes[l].after = nobody, me.cursor[l].after()
			me.cursor[l] = 0
			if m.broken != NoClaimRow {
				me.progress[l] = 0 // the row is there, but nobody looks: eviction asks for owned lanes, and a claim appends a row
			}
		}
	}
	to(s)
}

// read takes up to n of the next events of each lane: engine.Member.Read.
func (m *model) read(s state, id int, n uint8, to func(state)) {
	me := &s.sessions[id]
	if !me.free() {
		return
	}
	for e := range events {
		if c := me.cursor[laneOf[e]]; c.known() && placeOf[e] > c.after() && placeOf[e] <= c.after()+n {
			me.window.add(e)
		}
	}
	if me.window == 0 {
		return
	}
	if me.suspect {
		me.phase = writing // worker.runner.writeDown
	} else {
		me.todo = me.window
	}
	to(s)
}

// take claims a delivery in a lane of its own: engine.Member.ClaimDue.
func (m *model) take(s state, id, e int, to func(state)) {
	me := &s.sessions[id]
	if me.free() && m.mayWrite(me) && me.cursor[laneOf[e]].known() && s.rows[e].state == retrying {
		s.rows[e] = row{running, owner(id + 1)}
		me.todo.add(e)
		to(s)
	}
}

// deliver is a handler that returns nil. Handlers of a window run at once, but only the settle tells anybody: so one after the other will do.
func (m *model) deliver(s state, id, e int, to func(state)) {
	if me := &s.sessions[id]; me.phase == serving && !me.dead && me.todo.first(e) {
		me.todo.move(e, &me.done)
		to(s)
	}
}

// fail is a handler that returns an error.
func (m *model) fail(s state, id, e int, to func(state)) {
	if me := &s.sessions[id]; me.phase == serving && !me.dead && me.todo.first(e) && s.happened.slips < m.size.Slips {
		s.happened.slips++
		me.todo.move(e, &me.failed)
		to(s)
	}
}

// park lets a handler go on without its window: worker.batch.park. The settle gives it a row.
func (m *model) park(s state, id, e int, to func(state)) {
	if me := &s.sessions[id]; me.phase == serving && !me.dead && me.todo.first(e) && me.window.has(e) && s.happened.slips < m.size.Slips {
		s.happened.slips++
		me.todo.move(e, &me.parked)
		to(s)
	}
}

// unpark is a parked handler that returns, whoever owns its lane by now: worker.runner.unpark.
func (m *model) unpark(s state, id, e int, to func(state)) {
	if me := &s.sessions[id]; me.phase == serving && !me.dead && me.parked.has(e) && !me.window.has(e) {
		me.parked.move(e, &me.done)
		to(s)
	}
}

// fence begins a settle: all that was read is handled, and the session's row is locked against an eviction. With NoFence, nothing is.
func (m *model) fence(s state, id int, to func(state)) {
	me := &s.sessions[id]
	if me.dead || !m.mayWrite(me) {
		return
	}
	switch {
	case me.phase == writing:
		me.phase = noting
		to(s)
	case me.phase == serving && me.window|me.done|me.failed != 0 && (me.todo == 0 || m.broken == SettleEarly && me.window != 0):
		me.phase = settling
		to(s)
	}
}

// commit is the rest of engine.Member.Settle, or of engine.Member.SettleTx: deliveries, and one progress row.
func (m *model) commit(s state, id int, to func(state)) {
	me := &s.sessions[id]
	if me.phase != settling && me.phase != noting {
		return
	}
	mine := row{running, owner(id + 1)}
	for e := range events {
		r := &s.rows[e]
		switch {
		case me.window.has(e) && me.phase == noting:
			if r.state == none {
				*r = mine
				me.todo.add(e)
			}
		case me.window.has(e) && me.done.has(e):
			s.record(e)
		case me.window.has(e) && r.state != none: // on conflict do nothing
		case me.window.has(e) && me.failed.has(e):
			*r = row{state: retrying}
		case me.window.has(e) && me.parked.has(e):
			*r = mine
		case me.done.has(e) && *r == mine:
			*r = row{}
			s.record(e)
		case me.failed.has(e) && *r == mine:
			*r = row{state: retrying}
		}
	}
	if m.broken == RowsFirst && me.window&me.failed != 0 {
		me.failed &^= me.window // the cursor is for the next settle
		me.phase = serving
		to(s)
		return
	}
	if me.window != 0 {
		for l := range s.lanes {
			if me.cursor[l].known() {
				me.cursor[l] = me.reaches(l)
				me.progress[l] = me.cursor[l]
			}
			if s.lanes[l].owner == owner(id+1) {
				s.lanes[l].suspect, s.struck[l] = false, false
			}
		}
		me.suspect = false
	}
	me.window, me.done, me.failed = 0, 0, 0
	if me.phase = serving; me.dead {
		me.forget()
	}
	to(s)
}

// ---- what may go wrong ----

func (m *model) fault(s *state) bool {
	if s.happened.faults == m.size.Faults {
		return false
	}
	s.happened.faults++
	return true
}

// die kills a process, or cuts its connections. What it has sent may still be carried out: see commit, and roll back.
func (m *model) die(s state, id int, to func(state)) {
	me := &s.sessions[id]
	if me.phase == absent || me.phase == over || me.dead || !m.fault(&s) {
		return
	}
	if me.phase == settling || me.phase == noting {
		me.dead = true
	} else {
		me.forget()
	}
	to(s)
}

// rollBack is what else may become of a dead process's transaction.
func (m *model) rollBack(s state, id int, to func(state)) {
	if me := &s.sessions[id]; me.dead {
		me.forget()
		to(s)
	}
}

// evict deletes a session's row: the first statement of engine.Evict. It waits for a settle that is past the fence. That of a dead
// one comes sooner or later; a living one, stopped or cut off for a while, may be taken for dead, and go on as if nothing had happened.
func (m *model) evict(s state, id int, alive bool, to func(state)) {
	me := &s.sessions[id]
	dead := me.dead || me.phase == over
	if !me.member || dead == alive || me.eviction == deleted || (me.phase == settling || me.phase == noting) && m.broken != NoFence {
		return
	}
	if m.broken == OneStatement && me.eviction != ordered {
		return
	}
	if alive && !m.fault(&s) {
		return
	}
	me.eviction = deleted
	to(s)
}

// order is OneStatement's: its only snapshot is from before it waits.
func (m *model) order(s state, id int, to func(state)) {
	if me := &s.sessions[id]; m.broken == OneStatement && me.member && me.eviction == unhurt {
		me.eviction, me.snapshot = ordered, me.progress
		to(s)
	}
}

// fold is what follows, in statements with a snapshot of their own, and the commit: the last progress goes into the lanes, and
// all that it owned is free.
func (m *model) fold(s state, id int, to func(state)) {
	me := &s.sessions[id]
	if me.eviction != deleted {
		return
	}
	progress := me.progress
	if m.broken == OneStatement {
		progress = me.snapshot
	}
	for l := range s.lanes {
		lane := &s.lanes[l]
		if lane.owner != owner(id+1) {
			continue
		}
		if progress[l].known() && m.broken != NoFold {
			lane.after = progress[l].after()
		}
		lane.owner, lane.suspect, s.struck[l] = nobody, m.broken != NoSuspects, true
	}
	for e := range s.rows {
		if s.rows[e].owner == owner(id+1) && m.broken != KeepRows {
			s.rows[e] = row{state: retrying}
		}
	}
	me.member, me.eviction = false, unhurt
	me.progress, me.snapshot = [lanes]latest{}, [lanes]latest{}
	to(s)
}

// giveUp is an eviction that fails: lock_timeout, or the death of who evicts. Nothing of it counts.
func (m *model) giveUp(s state, id int, to func(state)) {
	if me := &s.sessions[id]; me.eviction == deleted && m.fault(&s) {
		me.eviction = unhurt
		to(s)
	}
}

// notice is a session that finds that it was evicted: a fence that fails, or the heartbeat.
func (m *model) notice(s state, id int, to func(state)) {
	if me := &s.sessions[id]; !me.member && (me.phase == serving || me.phase == writing) {
		me.forget()
		to(s)
	}
}
