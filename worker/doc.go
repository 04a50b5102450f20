// Package worker runs handlers for the events of an outbox.
//
//	publish → log → lane → window → handler → settle
//
// A [Worker] joins subscriptions and shares their lanes with the other workers that serve them. For each subscription it repeats three
// steps: it reads a window of events, calls the handler, and settles, which records the results. When there is nothing to read, it sleeps
// until the doorbell wakes it.
//
//	doorbell ──▶ control loop ──▶ wake-ups ──▶ runner: read ▶ handle ▶ settle     (one for each subscription)
//	                  │
//	                  └─ in one of all workers, the sentinel: answers the doorbell, evicts dead workers, deletes old events
//
// Delivery is at least once, and in order by key. A handler has one of five forms:
//
//	Handle           one event; many at once
//	HandleBatch      the events of a window, as a slice
//	HandleTx         one event, and the transaction in which it is settled: writes in it take effect exactly once
//	HandleBatchTx    both
//	HandleAsync      one event, which is begun, and answered later: thousands in flight, without a goroutine for each
//
// A handler returns nil if it succeeded. Any error has the event tried again later, as [Retry] says, but for [RetryAfter], [Snooze],
// [PauseFor], [Outage], [DeadLetter] and [Skip], which say otherwise; [PerEvent] has one error for each event of a slice. docs/guarantees.md has
// the details.
//
// # Flow control
//
// With Handle, a key holds up nothing but itself. What is behind a slow or failed event of its key waits, as deliveries and, beyond 100 of
// them, in the log. Windows go on without a key that would take longer than the others, however many events it has.
//
// When nearly all attempts fail, what handlers call is taken to be down: the circuit breaker of Subscription.BreakerAfter opens. Little is
// read and tried then, and attempts that fail are not counted, so an outage makes no dead letters.
//
// To spare what handlers call, there are four means:
//
//	Subscription.Rate    attempts per second, in all workers of the subscription together
//	PauseFor             begin nothing of the subscription for some time: status 429 or 503 with Retry-After
//	Snooze               handle this event again later
//	Outage               what the handler calls is away, or refuses everybody: open the breaker at once
//
// None of them uses up attempts. [RetryAfter] does: it is for an event that has failed, and says when to try it again.
//
// # Zero and no limit
//
// In [Config], [Subscription] and [Retry], a zero field means its default. Where a field says "May be Unlimited", [Unlimited] means no
// limit. The flags of the worker command have the same names and take the word "unlimited".
package worker
