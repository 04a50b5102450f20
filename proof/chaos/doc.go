// Command chaos tries to make the outbox lose, repeat or reorder events, and says in numbers whether it could. Run it with
// --help to learn how.
//
// # What is real
//
// PostgreSQL is real, with fsync on, and so are the processes: cmd/producer, and workers that are this very program run again with
// the public API of package worker and nothing else. They are killed and stopped by signals. Between each of them and the server
// is a proxy (internal/proxy), which cuts, delays and swallows what passes. Only the publishing clients, the ledger and the
// judge live in the process that nothing kills.
//
// # What is promised
//
// Each publisher writes into the ledger what it knows of its transactions, and nothing else does: an event is entered before it is
// sent, and becomes committed only when the commit was acknowledged, or rolled back only when it cannot have been committed.
// Where no answer came, the outcome is unknown, and decided in the end by a look into the log: there it is, and then it
// has to be delivered, or it is not, and then it must not have been. That is the only question that the database is asked in its own
// matter. An acknowledged event that is not in the log is a loss, and one in the log that was rolled back is a phantom.
//
// # What was done
//
// A handler appends a line to a file when it is about to return, with one write. The file is shared by all processes, and the
// kernel appends one write after the other, so the order of lines is that of the handlers' ends across processes, without any clock.
// A line outlives the process and the database. A handler that was killed before its line has not returned, so a loss cannot
// hide there; one that was killed after it has, so a duplicate cannot hide either.
//
// The handler in a transaction is judged by the rows that it leaves, which have no unique index: what counts twice is there twice.
//
// # What is checked
//
// For each of twelve subscriptions, of all forms, most with a filter, one whose handlers fail, panic, hang, are slow and kill their
// process:
//
//   - lost: committed, with a matching topic, and neither handled with success nor kept as dead or skipped;
//   - phantom: in a line, in a delivery or among the effects, and not committed, or of a topic that was not asked for;
//   - duplicates: successes beyond the first. Each is possible only if the one before it was not recorded, so there must be no more
//     than successes that were not recorded when their worker's session ended. Which those are is known from triggers that
//     copy what workers settle, in the same transaction: a success in a line before its session's last settle but one was recorded (the
//     last may have been under way while its window was handled);
//   - order: of a key, no event is handled with success for the first time before an earlier one that was acknowledged before
//     the later one was begun. A key has one publisher, which waits for its answer, so that is all earlier ones but the unknown.
//     Those that are kept do not count: what is behind a dead letter goes on;
//   - exactly once: each committed event has one row, each other has none;
//   - dead letters where no handler fails; workers that crash, or do not end with 0 after SIGTERM;
//   - the time from the end of the last fault until nothing is left to do.
//
// What waits while one connection of a worker passes nothing, and no other fault goes on, is judged: at most the lease and 5 seconds. So
// is what waits while nothing is wrong but with other keys: a burst of one whose handlers are slow, a late transaction of one that has
// more events than a window, a few that fail all the time. That is at most 4 seconds. For
// other faults, the longest stall is only measured: how long a fault may last is the schedule's choice. It is the longest time from an
// acknowledged commit to the first call of a handler, with the faults that were going on. Times are of the machine's monotonic clock,
// which all processes share.
//
// The judge is tested with evidence that has each of these planted in it.
//
// # Clocks
//
// What workers decide by time, they decide by the database's clock, or by how much of their own has passed; only the times in the
// errors of a delivery are the worker's. With --skew, every second worker is this program built with a time.Now that is wrong by
// so much, by way of the compiler's overlay: no switch in the product, and no trust in the sentence before.
// PostgreSQL's own clock is never wrong here.
//
// # What this does not show
//
// The machine itself does not lose power, and there is one server: what fsync and replication promise is PostgreSQL's matter.
// The seed decides which faults come when and what clients publish; how processes interleave, the machine decides. So a seed
// that has found something may have to run again to find it again.
package main
