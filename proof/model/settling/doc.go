// Package settling is a model of how the subscriptions of a worker settle together (docs/design.md, "Owning lanes"): one of them records
// what the others offer while they sleep. The first one is transactional: what it writes commits with its cursor. Every second event is
// none of its topics, so it has progress alone to record, too. The worker may die at any moment, and begins anew from what is recorded.
//
// # What is checked
//
//   - [NotSkipped]: no cursor is past an event that was not handled.
//   - [Once]: the effect of a transactional handler is recorded once.
//   - [Forward]: no cursor goes back.
//
// # What is left out, and why that is sound
//
//   - Lanes, fences and evictions: see package lanes. A settle for several subscriptions is one transaction as one for a single one is.
//   - Deliveries: what has to do with them is not offered.
//   - When progress is due: any that is owed may be recorded at any moment.
package settling
