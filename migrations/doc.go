// Package migrations holds the schema of Signalbox, and checks whether a database has it. Package apply brings a database up to date.
//
// There are two sets, each with a version table of its own:
//
//   - [Outbox] creates the schema outbox: the log, subscriptions and what workers remember. An application that
//     embeds Signalbox needs this one only.
//   - [Signals] creates the tables of the reference service: what package producer stores, and what "worker --handler
//     rollup" makes of it.
//
// [For] has the set of an outbox of another name: the same migrations, with its schema, channel and locks in place of the default's.
//
// They are plain tern migrations, so the same files work in three ways: "outbox migrate", "tern migrate" in the
// folder of a set, and apply.Up from Go. Workers and producers call [Set.Check] and refuse to start on a schema that
// is missing, that is older than they work with, or that is newer and does not serve them any more: each migration says which binaries
// it still serves.
package migrations
