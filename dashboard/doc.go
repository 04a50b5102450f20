// Package dashboard shows an outbox in a browser: how fast events come and go, how far each subscription is, what became
// of an event, and what failed. What failed can be retried, skipped or discarded there, and subscriptions be paused,
// resumed and replayed.
//
//	d, err := dashboard.NewHandler(pool, dashboard.Config{})
//	…
//	mux.Handle("/outbox/", http.StripPrefix("/outbox", d))
//
// It is one [Handler] to mount below any path. All links are relative, so it need not know where it is, and all pages work
// without JavaScript. With JavaScript, a page asks for itself as a stream of server-sent events, and gets what has changed
// every two seconds, while a page is open.
//
//	GET /deadletters                              the page
//	GET /deadletters  Accept: text/event-stream   its main part, whenever that changes
//
// The package has no goroutines of its own. Rates are computed from marks that are taken while a page is open. No page counts
// or reads more than a bounded number of rows.
//
// Anyone who reaches it sees every payload and may decide about every event: see [Config] for how to close it.
package dashboard
