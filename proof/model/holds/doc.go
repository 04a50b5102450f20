// Package holds is a model of held keys (docs/design.md, "Held keys"): the events of one key, in transactions that commit in any order; a
// reader that may be one window ahead of what is decided; a line of deliveries, and the hold that begins where it is long; deliveries without
// a copy of their event; the breaker of one of two topics; refills, replays and retention beside all that. It visits all orders of a few events; worker/order_test.go runs the real code through many
// random ones.
//
// # What is checked
//
//   - [NotLost]: every committed event is handled, or has a row with a copy of it, or is in the log, and has a row, or is beyond the cursor,
//     or pending, or held.
//   - [Once]: no event is handled twice, unless it was replayed.
//   - [InOrder]: when an event is handled for the first time, all are that had been committed before it took its id.
//
// # What is left out, and why that is sound
//
//   - Other keys: they only move the cursor, as ids whose transactions roll back do here.
//   - How a read finds out what is pending: package reading checks it. Here a read is one step.
//   - Who owns a lane: package lanes. A crash loses the window that is read and not decided, and a window is decided and settled in one
//     step, since nothing else looks at what is decided and not settled: a refill settles first.
//   - A line is long as soon as it has one delivery, so that few events reach every case.
package holds
