package doorbell

import "github.com/signalbox-go/signalbox/proof/model/explore"

// Broken is what is left out of the protocol, or done wrong.
type Broken int

// What the explorer has to find fault with.
const (
	Nothing Broken = iota
	// FlagInTable has publishers look at a row instead of trying a lock. The sentinel still waits for those that share the lock.
	FlagInTable
	// NoWait grants the lock without waiting for those that share it.
	NoWait
	// NoLastProbe sleeps as soon as the lock is granted.
	NoLastProbe
	// LookAfterUnlock takes the baseline after the lock is given back.
	LookAfterUnlock
	// SilentTakeover has a new sentinel begin without waking everybody.
	SilentTakeover
	// RingBeforeBaseline has a new sentinel wake everybody before it takes its baseline.
	RingBeforeBaseline
	// ForgetWhileReading has a worker sleep after a read, whatever it has heard since that began.
	ForgetWhileReading
	// ListenAfterRead has a new worker listen only after its first read.
	ListenAfterRead
	// KeepLateGrant takes lock_timeout's error for a proof that the lock is not held.
	KeepLateGrant
	// WaitingPublisher has publishers wait for the lock instead of trying it.
	WaitingPublisher
	// UnlockBeforeVisible is a PostgreSQL whose transactions give their locks back before others see them.
	UnlockBeforeVisible
)

// The properties.
const (
	AllRead = "every committed event is read, without a fallback poll"
	NoBlock = "a publisher never waits"
	Spared  = "a sentinel that polls, and asks for nothing, does not make publishers notify"
)

// A Size says how much may happen.
type Size struct {
	Publishers   int   // 1 or 2
	Transactions uint8 // of each: 1 or 2
	Faults       uint8 // in all
}

type model struct {
	broken Broken
	size   Size
}

// Spec returns the model, broken or not.
func Spec(broken Broken, size Size) explore.Model[state] {
	m := &model{broken, size}
	spec := explore.Model[state]{Start: start()}
	add := func(actor, does string, fair bool, next func(state, func(state))) {
		spec.Actions = append(spec.Actions, explore.Action[state]{Actor: actor, Does: does, Fair: fair, Next: next})
	}
	// Nothing that a publisher does is fair: it may keep its transaction open for ever. But once it has begun to commit, PostgreSQL
	// finishes that. Faults, and what depends on the load, need not happen either.
	for p := range size.Publishers {
		actor := name("publisher", p)
		step := func(does string, fair bool, do func(state, int, func(state))) {
			add(actor, does, fair, func(s state, to func(state)) { do(s, p, to) })
		}
		step("begins at repeatable read", false, m.begin)
		step("calls the trigger", false, m.wait)
		step("inserts an event, and finds that it can share the bell's lock", false, m.insert)
		step("commits: its events can be seen", false, m.commit)
		step("gives the bell's lock back", true, m.unlock)
		step("sends its notification", true, m.deliver)
		step("rolls back", false, m.rollBack)
		spec.Free = append(spec.Free, explore.Free[state]{Name: NoBlock, Actor: actor, Where: func(s state) bool { return s.publishers[p].phase != idle }})
	}
	for c := range sentinels {
		step := func(does string, fair bool, do func(state, int, func(state))) {
			add(name("sentinel", c), does, fair, func(s state, to func(state)) { do(s, c, to) })
		}
		step("gets the role, and others lose the bell's lock", true, m.elect)
		step("takes its baseline", true, m.firstLook)
		step("wakes everybody for everything, and polls", true, m.ringAll)
		step("looks, and rings for what is new", true, m.probe)
		step("asks for the bell's lock", false, m.ask)
		step("gets the bell's lock", true, func(s state, c int, to func(state)) { m.grant(s, session(c), to) })
		step("gives its request up", false, m.giveUp)
		step("is told that its request timed out, as it gets the lock", false, m.giveUpLate)
		step("unlocks, to be sure", true, m.dropLate)
		step("looks, before it disarms the bell", false, m.lookToDisarm)
		step("gives the bell's lock back, and polls", true, m.disarm)
		step("takes its baseline late", true, m.lookLate)
		step("finds a connection gone, and ends its session", true, m.notice)
		step("is killed", false, m.die)
		step("is stopped", false, m.stop)
		step("loses the role, because its lease is over", true, m.usurp)
		step("goes on", false, m.wake)
		step("loses its connection to the bell", false, m.cut)
	}
	for w := range workers {
		step := func(does string, fair bool, do func(state, int, func(state))) {
			add(name("worker", w), does, fair, func(s state, to func(state)) { do(s, w, to) })
		}
		step("begins to read", true, m.beginRead)
		step("has read what its snapshot saw", true, m.endRead)
		step("loses its session", false, m.lose)
		step("serves again", true, m.serveAgain)
	}
	for n := range publishers * transactions {
		spec.Eventually = append(spec.Eventually, explore.Eventually[state]{
			Name: AllRead, Waits: func(s state) bool { return (s.visible&^s.read)>>n&1 == 1 },
		})
	}
	spec.Always = []explore.Always[state]{{Name: Spared, Holds: spared}}
	return spec
}

func spared(s state) bool {
	for c := range s.sentinels {
		if s.sentinels[c].phase == polling && s.holder == session(c) {
			return false
		}
	}
	return true
}
