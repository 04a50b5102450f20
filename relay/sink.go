package relay

import (
	"context"

	"github.com/signalbox-go/signalbox/outbox"
)

// A Message is an event as a sink sends it.
type Message struct {
	// ID is the UID of the event. No other event gets it, so receivers use it to drop repeated messages.
	ID string

	// Destination says where in the sink's system the message goes: a Kafka topic, a NATS subject, a RabbitMQ routing key, the name of a
	// webhook endpoint.
	Destination string

	// Key orders messages: those of one key arrive in the order of their events. May be empty.
	Key string

	// Headers are the event's, those of the encoding, and the context of the trace: that of the span in which the message is sent, if the
	// subscription has a tracer, or else the publisher's.
	Headers map[string]string

	// ContentType is the media type of Body.
	ContentType string

	// Body is what is sent. It is nil if the event's payload is null: a tombstone, if the sink's system has them.
	Body []byte

	// Event is the event itself. It must not be modified.
	Event *outbox.Event

	// Attempt is the number of this attempt, from 1.
	Attempt int

	template string // of the destination, see Route
}

// A Sink sends messages to another system. Its methods must be safe for concurrent use.
//
// If a sink has a method String as well, that says where it sends to, such as "nats://localhost:4222", without secrets: operators see it as
// worker.Subscription.SendsTo.
type Sink interface {
	// Send begins to send a message, and calls done exactly once when the result is known: from any goroutine, possibly before Send
	// returns. It may block while the sink has as much in flight as it accepts. When ctx ends, it calls done soon.
	//
	// The error says what happens next:
	//   - nil: the system has acknowledged the message, and it is settled.
	//   - worker.DeadLetter(err): the system refuses this message because of its content. The event becomes a dead letter.
	//   - worker.Outage(err): the system is unavailable, or refuses all messages (credentials, an unknown stream). No attempt is used up, and
	//     the subscription's breaker opens.
	//   - worker.PauseFor(d, err): the system asks for a pause of d.
	//   - any other error: the message is tried again, as the subscription's Retry says.
	Send(ctx context.Context, m *Message, done func(error))

	// Pipelined reports whether messages of one key may be in flight together, because the system's client fails everything behind a
	// message that failed. Otherwise, Send is called for a message only when the one before it is done.
	Pipelined() bool

	// Check tries the connection, the credentials and the given destinations, and returns an error that says what to do.
	Check(ctx context.Context, destinations []string) error

	// Close closes the connection. Nothing is in flight when it is called.
	Close() error
}
