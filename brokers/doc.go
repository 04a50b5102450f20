// Package brokers holds what tries the relay against real brokers: their servers, and the tests that need them. It is a module of its
// own, so that users of the root module do not get the servers.
package brokers
