// Package producer is the reference service: it takes signals over HTTP and stores each with its event in one
// transaction, which is what an outbox is for.
//
//	POST /ingest ─▶ Handler ─▶ Store ─▶ begin
//	                                      insert into public.signals   the service's own data
//	                                      insert into outbox.events    signals.created, key: the signal's name
//	                                    commit
//
// Either both rows exist or neither does, so no subscriber hears of a signal that is not there, and none that is there
// goes unheard. There is no message broker to be down, and no second write to fail after the first.
//
// A service of your own does the same with its own tables: see [Store], which is all of the pattern, in forty lines.
//
// # HTTP
//
//   - POST /ingest stores one signal, {"name": …, "value": …, "timestamp": …}, or a random one if the body is empty.
//   - POST /ingest/batch stores up to 10,000, a JSON array or one object a line (application/x-ndjson), all or none.
//   - GET /healthz says that the process serves.
//   - GET /readyz says that the database answers and that its schema is this binary's.
//
// Every answer is JSON, and every error is {"error": "the reason"} and leaves nothing half done. 503 means that the same
// request may succeed later; if its reason says that the outcome is unknown, the signal may be stored already.
package producer
