// Package nats sends the events of an outbox to streams of NATS JetStream.
//
//	sink, err := nats.New(nats.Config{URL: "nats://localhost:4222"})
//
// A message's Destination is the subject it is published to, which a stream must take. Its ID is the header Nats-Msg-Id, by which the
// stream drops what it has stored already, within its duplicate window. An event is settled when the stream has acknowledged it.
//
// docs/relay-nats.md says what an acknowledgement means, what repeats, and what a consumer does about it.
package nats
