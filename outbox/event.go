package outbox

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/internal/storable"
	"github.com/signalbox-go/signalbox/internal/topic"
)

// Limits of an event. [Publish] and [PublishFrom] check them before they send the event; the database checks them for publishers in SQL.
const (
	MaxTopicBytes   = 255 // also for the name of a subscription
	MaxKeyBytes     = 1024
	MaxPayloadBytes = 1 << 20
	MaxHeadersBytes = 64 << 10 // names and values together
)

// An Event is an immutable fact. To publish one, set Topic and Payload, and Key where order matters. The database sets ID, UID and
// PublishedAt.
type Event struct {
	// ID is the position of the event in the log. An event that is lost with its server, in a failover to an asynchronous standby, may leave
	// its ID to another one: outside of the database, use UID. Set by the database.
	ID int64 `json:"id"`
	// UID identifies the event outside of the database, for example as an idempotency key. It is the text of a UUID (version 7) that follows from ID
	// and PublishedAt, and stays the same for the life of the event. UIDs sort by time, roughly: do not use one as a cursor. Set by the database.
	UID string `json:"uid"`
	// Topic is a name such as "signals.created": non-empty tokens separated by dots, without *, >, spaces or control characters. At most
	// MaxTopicBytes. Required.
	Topic string `json:"topic"`
	// Key identifies what must stay in order, such as the id of an order. Events with the same key are handled one after the other, in
	// the order in which they were published. At most MaxKeyBytes. Empty means no key: the event waits for no other. Defaults to
	// none.
	Key string `json:"key,omitempty"`
	// Payload is a JSON value that a jsonb of PostgreSQL can hold. It is stored unchanged, to the byte. At most MaxPayloadBytes. Required.
	Payload json.RawMessage `json:"payload"`
	// Headers are stored beside the payload, for example a trace id. At most MaxHeadersBytes, names and values together. Defaults to none.
	Headers map[string]string `json:"headers,omitempty"`
	// PublishedAt is when the publishing statement began, by the database's clock. Set by the database.
	PublishedAt time.Time `json:"published_at"`
}

// NewEvent returns an event to publish, with payload encoded as JSON. An empty key means none. It fails only if payload cannot be encoded;
// [Publish] validates the event.
func NewEvent(topic, key string, payload any) (Event, error) {
	raw, err := json.Marshal(payload)
	if err != nil {
		return Event{}, fmt.Errorf("encode payload of %q: %w", topic, err)
	}
	return Event{Topic: topic, Key: key, Payload: raw}, nil
}

// An EventError says which event was refused, and why. [Publish] has sent nothing to the database then, so the transaction remains
// usable; [PublishFrom] has, and the transaction must be rolled back.
type EventError struct {
	Index  int    // of the event among the arguments of Publish, or in the sequence of PublishFrom, from 0
	Field  string // "topic", "key", "payload" or "headers"
	Reason string
}

func (e *EventError) Error() string {
	return fmt.Sprintf("event %d: %s %s", e.Index, e.Field, e.Reason)
}

// check refuses what PostgreSQL would refuse, or readers could not use, while it can still be said which event it is:
// the error of a statement with a thousand events names none of them, and has already aborted the transaction.
func (e *Event) check(index int) error {
	refuse := func(field, reason string) error { return &EventError{Index: index, Field: field, Reason: reason} }
	if reason := topic.Fault(e.Topic); reason != "" {
		return refuse("topic", reason)
	}
	switch {
	case len(e.Key) > MaxKeyBytes:
		return refuse("key", fmt.Sprintf("is %d bytes long, at most %d are allowed", len(e.Key), MaxKeyBytes))
	case !storable.Text(e.Key):
		return refuse("key", "is not UTF-8 text without zero bytes")
	case len(e.Payload) == 0:
		return refuse("payload", "is missing")
	case len(e.Payload) > MaxPayloadBytes:
		return refuse("payload", fmt.Sprintf("is %d bytes long, at most %d are allowed: store it elsewhere and publish a reference", len(e.Payload), MaxPayloadBytes))
	case !storable.ValidJSON(e.Payload):
		return refuse("payload", "is not valid JSON")
	case !storable.Escapes(e.Payload):
		return refuse("payload", `has a string with \u0000 or half a surrogate pair, which no jsonb can hold`)
	}
	size := 0
	for name, value := range e.Headers {
		if size += len(name) + len(value); size > MaxHeadersBytes {
			return refuse("headers", fmt.Sprintf("are more than %d bytes long", MaxHeadersBytes))
		}
		if !storable.Text(name) || !storable.Text(value) {
			return refuse("headers", "are not UTF-8 text without zero bytes")
		}
	}
	return nil
}
