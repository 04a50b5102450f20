// Package webhook sends the events of an outbox to HTTP endpoints, signed as Standard Webhooks says (https://www.standardwebhooks.com).
//
// A message goes to one endpoint. An endpoint that is slow, down, or wants to be left alone holds up its own messages and no others:
// each has its own breaker, its own pause, and its own share of what runs.
//
// # Answers
//
//	2xx                  the message is delivered
//	410                  the endpoint is disabled: this message and those that follow become dead letters. It is enabled again by a change
//	                     of its definition, of the file (touch is enough), by Sink.Enable, or by a restart.
//	408, 429, 5xx        tried again; the endpoint is left alone for as long as its Retry-After says, up to an hour
//	3xx                  a dead letter: redirects are not followed
//	other                a dead letter, with the beginning of the answer
//	none                 tried again
//
// An endpoint is down when it cannot be reached, or when five messages in a row have failed. Its messages then come back later, without an
// attempt used up, and it is probed with one of them from time to time, at most five seconds apart while there are any.
//
// # Order
//
// Messages of one endpoint and key go one after the other, and so do those of one endpoint without a key, in each worker. A message without
// a key that fails is tried again later, and those behind it pass. What needs an order needs a key.
//
// # Many endpoints in one subscription
//
// Set Subscription.BreakerAfter to worker.Unlimited: each endpoint has a breaker of its own, and the subscription's would take many
// endpoints that fail for an outage of all. With one endpoint (Config.Endpoint), leave it as it is: there it is the only breaker.
//
// # What may be reached
//
// The address that is dialled is checked, after its name was resolved: private, local, shared and reserved ones are refused unless
// Config.Allow has them. Redirects are not followed, and no proxy is used unless it is asked for.
//
// # Verifying
//
// Receivers verify with a library of Standard Webhooks, and drop what they have seen by the header webhook-id. See docs/relay-webhooks.md.
package webhook
