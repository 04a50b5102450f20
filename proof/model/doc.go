// Command model checks the protocols of docs/design.md exhaustively. Its packages are the models, each a small specification to
// read, and explore, which visits every state that they can reach:
//
//   - difference: subscriptions that read together from the end of the log. No event is lost, repeated or out of order.
//   - doorbell: publishers, the sentinel and workers that sleep. No wake-up is lost.
//   - lanes: workers that own lanes, settle, die and are evicted. No event is skipped, and none is recorded twice.
//   - holds: keys with many events, which stay in the log. None of those is lost, repeated or out of order.
//   - reading: cursors, and transactions that commit late. No event is lost, and none is read out of order.
//   - settling: subscriptions of a worker that settle together. No event is skipped, and no effect counts twice.
//   - topics: subscriptions whose topics change. Each event is delivered as often as the topics of the moment say.
//
// Each model is checked as the code has it, and must hold; and with one thing left out or done wrong, and must not, or it
// would not have shown anything. The tests do what takes seconds.
//
//	go run ./proof/model    # all of it: a minute or two, and two gigabytes of memory
//
// prints a table of what was explored, and for each broken variant the shortest run that violates a property.
//
// A model is not the code. That it mirrors the code is for its readers to see, so whoever changes one of them changes both.
package main
