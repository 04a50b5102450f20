// Package worker runs handlers for the events of an outbox.
//
//	publish → log → lane → window → handler → settle
//
// A [Worker] joins subscriptions, shares their lanes with the other workers that serve them, and for each subscription
// does one thing over and over: read a window of events, run their handlers, settle. It sleeps when there is nothing
// to read, until the doorbell rings.
//
//	doorbell ──▶ control loop ──▶ wake-ups ──▶ runner: read ▶ handle ▶ settle     (one for each subscription)
//	                  │
//	                  └─ in one of all workers: the sentinel, who answers the doorbell and evicts the dead
//
// Delivery is at least once, and in order by key. A handler has one of four forms:
//
//	Handle           one event; many at once
//	HandleBatch      the events of a window, as a slice
//	HandleTx         one event, and the transaction in which it is settled: what it writes there counts exactly once
//	HandleBatchTx    both
//
// It returns nil when it is done, and any error to be called again later ([Retry]), unless that is one of [RetryAfter],
// [DeadLetter] or [Skip]; [PerEvent] has one error for each event of a slice. docs/guarantees.md says more.
//
// # Zero and no limit
//
// In [Config], [Subscription] and [Retry], the zero value of a field means its default. A field that may be without a limit takes
// [Unlimited] for that. The flags of the worker command have the same names, and take the word "unlimited".
package worker
