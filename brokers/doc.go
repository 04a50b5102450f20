// Package brokers holds what tries the sinks of the relay against real brokers: their servers, in nats and rabbitmq; what sends to them and
// keeps a ledger, in drive; and certificates. It is a module of its own, so that users of the root module do not get the servers.
package brokers
