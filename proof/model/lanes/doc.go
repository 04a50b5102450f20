// Package lanes is a model of how lanes are owned (docs/design.md, "Owning lanes"): workers claim lanes, read, handle, settle and release;
// they die at any moment, or are taken for dead, are evicted, and wake up later. Read state.go, then steps.go from top to bottom: each
// step names the code that it mirrors.
//
// # What is checked
//
//   - [InStep]: a lane's cursor, as the database has it, is past an event if and only if that is recorded as delivered, or has a row of
//     its own. So no event is skipped, no cursor goes back, and no settle of an evicted worker counts.
//   - [Once]: no event is recorded as delivered twice. With HandleTx, its effect is recorded by the same commit, so this is
//     "exactly once".
//   - [NoOrphan]: a running delivery belongs to a worker that is there, or is about to be evicted.
//   - [Noted]: the first window of a lane whose owner was evicted has rows before its handlers start.
//   - [AllDone]: every event is delivered in the end. Everything is fair, in the sense of package explore, but for faults, failing, parking,
//     releasing, and reading more than one event.
//
// # What is left out, and why that is sound
//
//   - The log is complete from the beginning, and a cursor is a number. What is committed late, or pending, is a
//     matter of the values that are handed over, not of who hands them over: see package reading.
//   - Handlers only matter through what is settled, so those of a window run one after the other. That they may run twice, in a worker
//     that was taken for dead and in its heir, is at least once, and no property here.
//   - Claims, releases, and claims of deliveries are one step, fence included: they are sent as one transaction, in one round trip.
//     What an eviction between a fence and its commit does is covered by the settle, which is two steps.
//   - An eviction is two steps, its delete and what follows. While it waits for a settle, it has changed nothing. Whoever evicts, and
//     whether it is one or two at a time, does not matter: the second finds no row.
//   - Who is dead is not decided by locks and leases here. Any session may be evicted at any moment, and goes on until it notices.
//     So neither do terminated connections help: the fence has to be enough.
//   - Old progress rows: only the last one of an owner that lists a lane is kept, and none of lanes that it has released, but in
//     NoClaimRow, which depends on them.
//   - A window takes one event of each lane, or all. Shares are not computed: any claim, and any release, may happen.
//
// Numbers are small: three sessions, two of them at once, two lanes, three events, and as many faults as the check says. That more
// of them show nothing new is what all models of this kind hope for, and do not prove.
//
// # Not modelled
//
// The order of keys; attempts, delays and dead letters; decisions about deliveries by hand; two subscriptions; locks between
// transactions other than the fence, so no deadlocks; a server that crashes, which aborts what is in flight and ends
// every session.
package lanes
