// Package demo shows the outbox at work to a person, and judges whether it kept its word.
//
//	traffic ── POST /ingest ──▶ producer ──▶ PostgreSQL ──┬──▶ log:    worker log-1, log-2, …
//	   │                           │                      └──▶ audit:  worker audit-1, audit-2, …
//	   │ sent                      │ stored                                │ handled
//	   └─────────────────────────▶ └────────────▶ ledger ◀─────────────────┘
//
// Everything is real: HTTP over a socket, PostgreSQL, and the library's own workers, several for each of two
// subscriptions. The ledger compares what clients were told is stored with what handlers were called for.
package demo
