// Package doorbell is a model of the doorbell (docs/design.md, "The doorbell"): publishers that notify or share a lock, the sentinel
// that holds the lock or looks for itself, and workers that sleep until they are rung. Read state.go, then steps.go from top to
// bottom: each step names the code that it mirrors.
//
// # What is checked
//
//   - [AllRead]: every committed event is read, although nobody ever looks just because an interval is over. The
//     model has no fallback poll. So this is more than "delays events and loses none": no wake-up is lost.
//   - [NoBlock]: whatever the sentinel does, or fails to do, a publisher in a transaction has a next step.
//   - [Spared]: while the sentinel polls and asks for nothing, it does not hold the lock that makes publishers notify.
//
// AllRead needs somebody to go on. Fair, in the sense of package explore, are: the steps of a commit once it has begun; each
// next step of a sentinel or worker whose process runs; the grant of a lock that nothing stands against; the discovery
// of a broken connection; the election of a candidate; the end of a stopped sentinel's role after its lease. Not fair, so that
// they may never happen, are: whatever a publisher does before its commit; asking for the lock, giving up, and disarming, which depend on the load;
// the waking up of what was stopped; and faults.
//
// # What is left out, and why that is sound
//
//   - Isolation levels: neither locks nor notifications depend on a snapshot, so a publisher's first step is its insert. Only FlagInTable,
//     where a publisher reads a row, has a step that takes a snapshot, which is the one of repeatable read.
//   - A transaction's events: all of them can be seen at once, so it has one bit. It may insert as often as it likes; it is the first insert that
//     shares the lock, and the first one that cannot, that make a difference. Subtransactions are not modelled: the lock and the
//     notification of one that is rolled back go with its events.
//   - Snapshots are sets of committed transactions: that xip and [xmax, …) describe this set is what
//     package reading is about.
//   - A probe is one step, although its notification travels a moment after its snapshot. What is committed between the two is not in
//     the snapshot that the next probe starts from.
//   - What has been sent and not heard, and what has been heard and not acted upon, is one bit of a worker: notifications coalesce, and nothing
//     depends on when it hears.
//   - Time: a timeout may strike whenever it could, a rate may be any. So mode changes at every moment are checked, and not those
//     that the thresholds would choose.
//   - Who owns a lane is fixed: the transactions of a publisher alternate between two lanes, and a worker stands for whoever serves its lane.
//     When it loses its session, the next one listens and reads. That lanes change hands in order is what package lanes
//     checks; that a read finds all that is committed, package reading.
//   - A killed process loses its locks at once. That the server may notice it late, and one connection before the other, is
//     covered by one that is stopped, or cut off from one connection, and never comes back. At least one of the
//     sentinels is not stopped for ever.
//
// # Not modelled
//
// Workers that are no candidates, behind a pooling proxy; prepared transactions; a server that crashes, which ends all
// sessions at once, and with them everything that is not in a table; bugs in PostgreSQL. Two of its promises are steps of the
// model: that a try-lock fails when a conflicting request is queued, and that locks are released after a commit can be seen. The latter has a broken
// variant, to show what depends on it.
package doorbell
