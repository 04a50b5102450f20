// Package outbox publishes events to the log, in the caller's transaction.
//
// A service writes its own rows and an event in one transaction:
//
//	tx ──▶ insert into orders …
//	   ──▶ outbox.Publish(ctx, tx, event)      one insert into outbox.events
//	   ──▶ commit                              both are there, or neither
//
// Most programs need no more of this package. Package worker runs handlers for published events; package admin inspects and
// administers the outbox. docs/design.md explains how it works.
package outbox
