// Package tracing follows traces through the outbox to real receivers: a handler, Kafka, a webhook.
package tracing
