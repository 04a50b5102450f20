// Package moves has no code. Its tests move an outbox between real servers in every way that docs/moving.md has, with the commands that
// are there: pg_upgrade, dumps, logical replication, a copy of the files, a standby that lags and is promoted.
//
// Each begins with a log that has all that a log can have: events that are settled, dead letters, deliveries that are retried, a key that
// is held, events that cursors passed before their transaction was committed, a backlog, and a prepared transaction. A ledger outside of the
// database has what handlers did, by UID, before and after. Then nothing may be missing, and nothing that was settled repeated; the UIDs
// of all events have to be what they were; and at each wrong step, the command or the worker has to say what is wrong.
package moves
