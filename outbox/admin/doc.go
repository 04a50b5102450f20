// Package admin reads and administers an outbox: subscriptions, deliveries, events, replays, status.
//
//   - Subscriptions: [CreateSubscription], [ListSubscriptions], [GetSubscription], [Pause], [Resume], [DeleteSubscription].
//   - The log, and what became of an event: [ListEvents], [ListNewestEvents], [GetEvent], [Tail].
//   - Handling events again: [Rewind] for everything from a position on, [Replay] for the events that match a filter.
//   - What failed: [ListDeliveries], [GroupDeliveries], [CountDeliveries], [ListHeldKeys]; [RetryDeliveries], [SkipDeliveries]
//     and [DiscardDeliveries] decide about it, and [DecideInChunks] about very much of it.
//   - How it is doing: [GetStatus], and [GetStatusUpTo] for callers that ask again and again.
//   - What operators type: [ParseTime], [ParsePosition].
//
// Lists that grow with the log return a [Page] at a time; [ListSubscriptions], [ListLanes] and [ListFeatures] return everything, and
// [ListBlockedKeys] the first ones. A function whose name ends with UpTo stops at a limit, so that it is quick. Functions that name a subscription return [outbox.ErrUnknownSubscription] where there is none of that
// name, never an empty answer. Functions that take an outbox.DB also work in a transaction; the others take an outbox.Database, a pool or a
// connection, and begin their own.
//
// What a function takes for db is about the default outbox. For another, give it what its DB method returns: see outbox.In.
package admin
