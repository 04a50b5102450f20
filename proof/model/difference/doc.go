// Package difference is a model of how the members of a worker read together (docs/design.md, "Reading together"): from the oldest of their
// snapshots, each takes what its own did not see. Publishers take transaction ids and event ids, and commit, in any order; two
// members, of two subscriptions, stand at the end of the log or fall behind, read by lanes or take what the other one has read there, put
// windows back, and read together again.
//
// # What is checked
//
//   - [NotLost]: every committed event is read by each member, or beyond its cursor, or of a transaction in its pending.
//   - [Once]: no event is read twice by a member.
//   - [InOrder]: when an event is read, all are that had been committed before it took its id.
//
// # What is left out, and why that is sound
//
//   - What package reading checks: that a transaction has its id before its event has one, and where a read takes the last id from.
//   - Other lanes: a member stands at the end only if it does in all of them, so one stands for them all. A lane that was just claimed is one
//     that was not read to its end.
//   - A difference that finds too much: it moves nothing, as if it had not been.
//   - More than one page: any of those that were read may be the one that is kept, for as long as may be.
//   - What a member does without the reader while that reads for the other one: the reader looks again where its members stand.
package difference
