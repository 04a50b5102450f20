// Package relay sends the events of an outbox to message brokers and webhooks.
package relay
