package relay

import (
	"context"

	"github.com/signalbox-go/signalbox/outbox"
)

// A Message is an event as a sink sends it.
type Message struct {
	// ID identifies the event for ever: receivers drop what they have seen by it.
	ID string

	// Destination says where in the sink's system the message goes: a Kafka topic, a NATS subject, a RabbitMQ routing key, the name of a
	// webhook endpoint.
	Destination string

	// Key orders messages: those of one key arrive in the order of their events. It may be empty.
	Key string

	// Headers are the event's, those of the encoding, and the context of the trace: that of the span in which the message is sent, if the
	// subscription has a tracer, or else the publisher's.
	Headers map[string]string

	// ContentType is the media type of Body.
	ContentType string

	// Body is what is sent. It is nil if the event's payload is null: a tombstone, where the sink's system knows them.
	Body []byte

	// Event is the event itself. It must not be changed.
	Event *outbox.Event

	// Attempt is the number of this attempt, from 1.
	Attempt int

	template string // of the destination, see Route
}

// A Sink sends messages to another system. Its methods must be safe for concurrent use.
type Sink interface {
	// Send begins to send a message, and calls done exactly once when it is known what became of it: from any goroutine, possibly before
	// Send returns. It may block while the sink has as much in flight as it wants. When ctx ends, done is called soon.
	//
	// The error tells what is to happen:
	//   - nil: the system has acknowledged the message, and it is settled.
	//   - worker.DeadLetter(err): the system refuses this message for what is in it. It becomes a dead letter.
	//   - worker.Outage(err): the sink's system is away, or refuses everybody (credentials, an unknown stream). No attempt is used up, and the
	//     subscription's breaker opens.
	//   - worker.PauseFor(d, err): the system wants to be left alone for that long.
	//   - any other error: the message is tried again, by the subscription's Retry.
	Send(ctx context.Context, m *Message, done func(error))

	// Pipelined reports whether messages of one key may be in flight together, because the system's client fails everything behind a
	// message that failed. Else Send gets one only when the one before it is done.
	Pipelined() bool

	// Check tries the connection, the credentials and what is known of the destinations, and returns an error that says what to do.
	Check(ctx context.Context, destinations []string) error

	// Close ends the connection. Nothing is in flight when it is called.
	Close() error
}
