// Package outbox is the log: events and publishing, topics, subscriptions, and the protocols by which workers read it without
// losing anything.
//
// A service writes its own rows and an event in one transaction:
//
//	tx ──▶ insert into orders …
//	   ──▶ outbox.Publish(ctx, tx, event)      one insert into outbox.events
//	   ──▶ commit                              both are there, or neither
//
// That is all most programs need of this package; package worker runs handlers for what was published.
//
// # How it is read
//
// The log is never updated. Each [Subscription] cuts it in 64 lanes, by the hash of the key, and has a cursor in each. A
// worker joins ([Join]), owns some of the lanes ([Member.Claim]), reads a window of events after its cursors
// ([Member.Read]) and, when they are handled, appends the new cursors to outbox.progress ([Member.Settle]). What did not
// succeed leaves the fast path and becomes a [Delivery], a row of its own.
//
//	events    ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ▶
//	lane 0    ■ ■ ■ ■ ■ ■│□ □ □                  ■ settled   │ cursor   □ to be read
//	lane 1    ■ ■ ■│□ □ □ □ □
//	…
//
// Ids are taken before commit, so an event may turn up below a cursor: the cursor remembers the transactions that were
// running when it passed, and the next read asks for theirs. docs/design.md has the proof.
//
// A worker that is dead is evicted ([Evict]): its row goes, which fences off whatever it still tries to settle, and its lanes
// are free for others. One worker, the sentinel, does that, and answers the [Bell].
//
// # How it is looked after
//
// Operators list, pause and resume subscriptions ([Subscriptions], [Pause], [Resume], [DeleteSubscription]), look at the log and at
// what became of an event ([Events], [EventByID]), have events handled again ([Rewind] for all from a [Position] on,
// [ReplayEvents] for some), and decide about what failed ([ListDeliveries], [LookAtDeliveries], [RetryDeliveries],
// [SkipDeliveries], [DiscardDeliveries]). The sentinel deletes what is old and settled by everybody ([Trim]). [ReadStatus]
// says how all of that is doing.
//
// The package has no goroutines. Member and Bell are for a single goroutine each, and own their connections.
package outbox
