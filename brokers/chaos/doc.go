// Command chaos tries to make a relay lose, make up or reorder messages, with a real broker, and says in numbers whether it could. Run it
// with --help to learn how. What it is to PostgreSQL and workers, proof/chaos of the root module tries.
//
// # What is real
//
// PostgreSQL and the broker are real, and so are the relays: processes, which are this very program run again with package relay and one of
// its sinks. They and the broker are killed and stopped by signals. Between them and the broker is a proxy, which cuts, delays and
// swallows what passes, in both directions or acknowledgements alone. Only the publishers, the ledger and the judge live in the process that
// nothing kills.
//
// # The ledger
//
// Publishers enter each event by its UID, with what became of its transaction: they know it, since nothing happens to PostgreSQL here.
// Relays append a line to a file before they send a message, and one when the sink has answered: each is one write, which outlives
// the process. In the end, all that the broker has stored is read from it. NATS's own duplicate window is as short as
// it can be, so what comes twice is seen.
//
// # What is checked
//
//   - lost: committed, and neither stored by the broker nor a dead letter that it has to be;
//   - phantom: stored, and never committed, or not what was published;
//   - poison, which is too large for the broker, is a dead letter with a reason, and nothing else is one;
//   - order: of each key, the first occurrences are in the order of publishing;
//   - repeats: a message is sent again only if it was not acknowledged, or if it was just before its relay was killed or stopped, and was not
//     recorded; and it is stored no more often than it was sent. So what repeats was in flight at a fault. Before the first fault,
//     nothing fails;
//   - repeats in order: what one relay has stored of a key goes back only after a failure or a stop of that relay;
//   - the time from the end of the last fault until nothing is left to do; relays that crash, or do not end with 0 after SIGTERM.
//
// The judge is tested with evidence that has each of these planted in it, and the whole with relays that have a bug.
package main
