// Package reading is a model of how a lane is read without losing what is committed late (docs/design.md, "Reading without losing"):
// publishers that take their transaction ids, take event ids, and commit in any order, and a reader with the cursor (after, pending).
// It visits all orders of a few transactions; internal/engine/cursor_test.go runs the real code through many random ones.
//
// # What is checked
//
//   - [NotLost]: every committed event is read, or beyond the cursor, or of a transaction in pending.
//   - [Once]: no event is read twice.
//   - [InOrder]: when an event is read, all are that had been committed before it took its id.
//
// # What is left out, and why that is sound
//
//   - Other lanes: they only add ids and transactions in between, as those of publishers that roll back do here.
//   - What was read counts as settled. Who settles it, and that cursors are handed over in step with it, is what package lanes checks.
//   - Transactions that wait with an id and never end: they do, in every prefix of a run, and these properties hold in each state.
//
// Not modelled: late events that do not fit into a window, with which some lanes catch up while others go on; lanes that are not read because
// too many of their deliveries are stuck; subtransactions; and other databases, whose transactions take ids too: a publisher that has not
// inserted yet is like one of those. Held keys have a model of their own: package holds.
package reading
