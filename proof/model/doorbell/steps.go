package doorbell

import "fmt"

// The steps. Each says which code it mirrors. What is one statement there, and needs no lock that it might wait for, is one step
// here; what happens between two of them is for the others to choose.

// ---- publishers: outbox.Publish, or any insert, and the trigger doorbell ----

// begin takes a snapshot at repeatable read. Locks are not part of it, and so it matters to FlagInTable alone.
func (m *model) begin(s state, p int, to func(state)) {
	if me := &s.publishers[p]; m.broken == FlagInTable && me.phase == idle && me.ended < m.size.Transactions {
		me.phase, me.stale = begun, !s.flag
		to(s)
	}
}

// wait is WaitingPublisher's: from here on it needs the lock.
func (m *model) wait(s state, p int, to func(state)) {
	if me := &s.publishers[p]; m.broken == WaitingPublisher && me.phase == idle && me.ended < m.size.Transactions {
		me.phase = waiting
		to(s)
	}
}

// insert is the trigger: pg_try_advisory_xact_lock_shared, and pg_notify if that fails. A conflicting request in the queue
// makes it fail as much as a lock that is held.
func (m *model) insert(s state, p int, to func(state)) {
	me := &s.publishers[p]
	if me.phase == shown || me.phase == idle && (me.ended == m.size.Transactions || m.broken == WaitingPublisher) {
		return
	}
	quiet := s.holder == nobody && s.queue == 0 || me.shares // who shares it already shares it again
	if m.broken == FlagInTable {
		quiet = !s.flag || me.stale
	}
	switch {
	case quiet:
		me.shares = true
	case m.broken == WaitingPublisher:
		return
	default:
		me.notifies = true
	}
	me.phase = inserted
	to(s)
}

// commit is where PostgreSQL makes a transaction visible (ProcArrayEndTransaction).
func (m *model) commit(s state, p int, to func(state)) {
	if me := &s.publishers[p]; me.phase == inserted && (m.broken != UnlockBeforeVisible || !me.shares) {
		me.phase = shown
		s.visible |= s.transaction(p)
		s.finish(p)
		to(s)
	}
}

// unlock comes after that, and gives the transaction's locks back, the bell's among them.
func (m *model) unlock(s state, p int, to func(state)) {
	me := &s.publishers[p]
	if me.shares && (me.phase == shown || me.phase == inserted && m.broken == UnlockBeforeVisible) {
		me.shares = false
		s.finish(p)
		to(s)
	}
}

// deliver comes last: it sends the transaction's notifications to those who listen (AtCommit_Notify).
func (m *model) deliver(s state, p int, to func(state)) {
	if me := &s.publishers[p]; me.phase == shown && !me.shares && me.notifies {
		me.notifies = false
		s.ring(everything)
		s.finish(p)
		to(s)
	}
}

// finish ends a transaction that has nothing more to do.
func (s *state) finish(p int) {
	if me := &s.publishers[p]; me.phase == shown && !me.shares && !me.notifies {
		*me = publisher{ended: me.ended + 1}
	}
}

// rollBack ends a transaction without its events, and without its notifications.
func (m *model) rollBack(s state, p int, to func(state)) {
	if me := &s.publishers[p]; me.phase == inserted {
		*me = publisher{ended: me.ended + 1}
		to(s)
	}
}

// ---- the sentinel: worker/doorbell.go and internal/engine/bell.go ----

// elect is the heartbeat in which pg_try_advisory_lock gives the role to a candidate (engine.Beat), and the first statement of
// engine.NewBell: PostgreSQL ends the connection of whoever else holds the bell's lock, or waits for it.
func (m *model) elect(s state, c int, to func(state)) {
	me := &s.sentinels[c]
	if !me.at(standby) || s.role != nobody {
		return
	}
	s.role, me.phase = session(c), elected
	for other := range s.sentinels {
		if id := session(other); s.holder == id || s.queue&id.bit() != 0 {
			s.sentinels[other].cut = true
			s.release(id)
		}
	}
	if m.broken == RingBeforeBaseline {
		s.ring(everything)
	}
	to(s)
}

// firstLook takes the baseline: the end of engine.NewBell.
func (m *model) firstLook(s state, c int, to func(state)) {
	if me := &s.sentinels[c]; me.at(elected) {
		me.phase, me.seen = based, s.visible
		to(s)
	}
}

// ringAll wakes everybody for everything: engine.RingAll, as the sentinel begins.
func (m *model) ringAll(s state, c int, to func(state)) {
	if me := &s.sentinels[c]; me.at(based) {
		if m.broken != SilentTakeover && m.broken != RingBeforeBaseline {
			s.ring(everything)
		}
		me.phase = polling
		to(s)
	}
}

// probe finds what this snapshot sees and the last one did not, and rings for it: engine.Bell.Probe, every probeTick while the
// bell is not armed, and once more after the lock was granted.
func (m *model) probe(s state, c int, to func(state)) {
	me := &s.sentinels[c]
	if !me.at(polling, arming, late, granted) {
		return
	}
	if me.phase == granted {
		if me.phase = armed; m.broken == NoLastProbe {
			to(s)
			return
		}
	}
	s.ring(s.visible &^ me.seen)
	me.seen = s.visible
	to(s)
}

// ask queues the request for the lock: the beginning of engine.Bell.Arm. It runs beside the probes.
func (m *model) ask(s state, c int, to func(state)) {
	if me := &s.sentinels[c]; me.at(polling) && !me.cut {
		s.queue |= session(c).bit()
		me.phase, s.flag = arming, m.broken == FlagInTable
		to(s)
	}
}

// grant gives the lock to a session in the queue, when nobody shares it or holds it any more.
func (m *model) grant(s state, id session, to func(state)) {
	if s.queue&id.bit() == 0 || s.holder != nobody || s.shared() && m.broken != NoWait {
		return
	}
	s.queue &^= id.bit()
	s.holder = id
	s.sentinels[id].phase = granted
	to(s)
}

// giveUp takes the request out of the queue: lock_timeout, in engine.Bell.Arm.
func (m *model) giveUp(s state, c int, to func(state)) {
	if id := session(c); s.sentinels[c].phase == arming && s.queue&id.bit() != 0 {
		s.queue &^= id.bit()
		s.sentinels[c].phase, s.flag = polling, false
		to(s)
	}
}

// giveUpLate is the same a moment later: the timeout strikes when the lock has been granted, before the session has noticed.
// PostgreSQL then reports the timeout, and the session has the lock all the same. So Arm unlocks after a timeout.
func (m *model) giveUpLate(s state, c int, to func(state)) {
	if me := &s.sentinels[c]; me.phase == granted {
		if me.phase = late; m.broken == KeepLateGrant {
			me.phase = polling
		}
		to(s)
	}
}

// dropLate is that unlock.
func (m *model) dropLate(s state, c int, to func(state)) {
	if me := &s.sentinels[c]; me.at(late) && !me.cut {
		s.release(session(c))
		me.phase = polling
		to(s)
	}
}

// lookToDisarm is the first half of engine.Bell.Disarm: a look, from before the lock is given back.
func (m *model) lookToDisarm(s state, c int, to func(state)) {
	if me := &s.sentinels[c]; me.at(armed) && !me.cut {
		me.phase, me.look = disarming, s.visible
		to(s)
	}
}

// disarm is its second half.
func (m *model) disarm(s state, c int, to func(state)) {
	if me := &s.sentinels[c]; me.at(disarming) && !me.cut {
		s.release(session(c))
		s.flag = false
		me.phase, me.seen, me.look = polling, me.look, 0
		if m.broken == LookAfterUnlock {
			me.phase, me.seen = unlocked, 0
		}
		to(s)
	}
}

// lookLate is LookAfterUnlock's: the baseline comes after the lock was given back.
func (m *model) lookLate(s state, c int, to func(state)) {
	if me := &s.sentinels[c]; me.at(unlocked) {
		me.phase, me.seen = polling, s.visible
		to(s)
	}
}

func (s *state) release(id session) {
	if s.holder == id {
		s.holder = nobody
	}
	s.queue &^= id.bit()
}

// ---- what may go wrong ----

func (m *model) fault(s *state) bool {
	if s.faults == m.size.Faults {
		return false
	}
	s.faults++
	return true
}

// die kills a worker's process, and all its locks vanish. What it leaves behind for a while, because the server has not noticed, is
// like what a stopped one has. Its next session, or another worker's, is a candidate.
func (m *model) die(s state, c int, to func(state)) {
	if s.sentinels[c].phase != standby && m.fault(&s) {
		s.leave(c)
		to(s)
	}
}

// leave ends a session.
func (s *state) leave(c int) {
	if s.role == session(c) {
		s.role = nobody
	}
	s.release(session(c))
	s.sentinels[c] = sentinel{phase: standby}
}

// stop freezes a process. Its connections stay, and their locks. It may stay so for ever, but not everybody at once.
func (m *model) stop(s state, c int, to func(state)) {
	for _, other := range s.sentinels {
		if other.stopped {
			return
		}
	}
	if me := &s.sentinels[c]; me.phase != standby && m.fault(&s) {
		me.stopped = true
		to(s)
	}
}

// usurp ends the connection on which a stopped process has the role: engine.EndFrozenSentinel, once its lease is over.
func (m *model) usurp(s state, c int, to func(state)) {
	if s.sentinels[c].stopped && s.role == session(c) {
		s.role = nobody
		to(s)
	}
}

// wake lets a stopped process go on. It does not know that it was stopped, and goes on where it was.
func (m *model) wake(s state, c int, to func(state)) {
	if me := &s.sentinels[c]; me.stopped {
		me.stopped = false
		to(s)
	}
}

// cut breaks the connection that has the bell's lock, or waits for it, and no other.
func (m *model) cut(s state, c int, to func(state)) {
	if me := &s.sentinels[c]; !me.cut && me.phase != standby && m.fault(&s) {
		me.cut = true
		s.release(session(c))
		to(s)
	}
}

// notice ends the session of a worker that finds one of its connections gone: engine.Bell.Watch while the bell is armed, the
// control loop for the role, any statement that fails.
func (m *model) notice(s state, c int, to func(state)) {
	me := &s.sentinels[c]
	if !me.stopped && me.phase != standby && (me.cut || s.role != session(c)) {
		s.leave(c)
		to(s)
	}
}

// ---- workers: worker/control.go (listen, ring), worker/runner.go (run, sleep) ----

// beginRead takes what has been heard, and then reads: worker.wakeups.take, engine.Member.Read.
func (m *model) beginRead(s state, w int, to func(state)) {
	if me := &s.workers[w]; me.phase == asleep && me.rung {
		me.phase, me.rung = reading, false
		s.read |= s.visible & ofLane(w)
		to(s)
	}
}

// endRead is done with what its snapshot saw. If it was rung since, it reads again; else it sleeps: worker.runner.sleep.
func (m *model) endRead(s state, w int, to func(state)) {
	me := &s.workers[w]
	if me.phase != reading {
		return
	}
	me.phase = asleep
	if m.broken == ForgetWhileReading {
		me.rung = false
	}
	if m.broken == ListenAfterRead {
		me.listening = true
	}
	to(s)
}

// lose ends the session of a worker that is no sentinel. What it was reading, and what it had heard, is gone.
func (m *model) lose(s state, w int, to func(state)) {
	if me := &s.workers[w]; me.phase != gone && m.fault(&s) {
		*me = worker{phase: gone}
		to(s)
	}
}

// serveAgain is the next session that has its lanes, of this worker or of another. It listens before it reads:
// worker.session.join.
func (m *model) serveAgain(s state, w int, to func(state)) {
	if me := &s.workers[w]; me.phase == gone {
		*me = worker{phase: asleep, listening: m.broken != ListenAfterRead, rung: true}
		to(s)
	}
}

func name(what string, n int) string { return fmt.Sprintf("%s %c", what, 'A'+n) }
