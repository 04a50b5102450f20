// Package engine reads the log for workers without losing anything: members and their cursors, lanes, settling, deliveries, the
// doorbell, and what the sentinel does. docs/design.md has the proofs.
//
// The log is never updated. A subscription cuts it in 64 lanes, by the hash of the key, and has a cursor in each. A worker joins
// ([Join]), owns some of the lanes ([Member.Claim]), reads a window of events after its cursors ([Member.Read]) and, when they are
// handled, appends the new cursors to outbox.progress ([Member.Settle]). What did not succeed leaves the fast path and becomes a
// [Delivery], a row of its own.
//
//	events    ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ▶
//	lane 0    ■ ■ ■ ■ ■ ■│□ □ □                  ■ settled   │ cursor   □ to be read
//	lane 1    ■ ■ ■│□ □ □ □ □
//	…
//
// Ids are taken before commit, so an event may turn up below a cursor: the cursor remembers the transactions that were running
// when it passed, and the next read asks for theirs.
//
// A dead worker is evicted ([Evict]): its row goes, which fences off whatever it still tries to settle, and its lanes are free for
// others. One worker, the sentinel, does that, and answers the [Bell].
//
// The package has no goroutines. Member and Bell are for a single goroutine each, and own their connections.
package engine
