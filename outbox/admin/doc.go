// Package admin looks at an outbox, and administers it: subscriptions, deliveries, events and what became of them, replays, status.
//
// List, pause and resume subscriptions ([Subscriptions], [Pause], [Resume], [DeleteSubscription]). Look at the log and at what became
// of an event ([Events], [EventByID], [Tail]). Have events handled again ([Rewind] for all from an outbox.Position on, [ReplayEvents]
// for some). Decide about what failed ([ListDeliveries], [LookAtDeliveries], [RetryDeliveries], [SkipDeliveries],
// [DiscardDeliveries]). [ReadStatus] says how all of that is doing.
//
// What a function takes for db is about the default outbox. For another, give it what its DB method returns: see outbox.In.
package admin
