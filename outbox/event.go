package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/internal/storable"
	"github.com/signalbox-go/signalbox/internal/topic"
)

// Limits of one event. They are checked before anything is sent, and by the database for publishers in SQL.
const (
	MaxTopicBytes   = 255 // also of a subscription's name
	MaxKeyBytes     = 1024
	MaxPayloadBytes = 1 << 20
	MaxHeadersBytes = 64 << 10 // names and values together
)

// An Event is an immutable fact. To publish one, set Topic and Payload, and Key where order matters. The database sets ID and
// PublishedAt.
type Event struct {
	// ID is the event's place in the log. Set by the database.
	ID int64 `json:"id"`
	// Topic is a name such as "signals.created": tokens between dots, none empty, without *, >, spaces and control characters, of at
	// most MaxTopicBytes. Required.
	Topic string `json:"topic"`
	// Key is what must stay in order, such as an aggregate's id. Events of one key are handled one after the other, in
	// the order in which they were published. Empty means that the event has none and is never held back.
	Key string `json:"key,omitempty"`
	// Payload is a JSON value that PostgreSQL's jsonb could hold, too. It is kept as it is, to the byte. Required.
	Payload json.RawMessage `json:"payload"`
	// Headers travel beside the payload: a trace id, a content type. Defaults to none.
	Headers map[string]string `json:"headers,omitempty"`
	// PublishedAt is when the publishing statement began, by the database's clock. Set by the database.
	PublishedAt time.Time `json:"published_at"`
}

// NewEvent returns an event to publish whose payload is the JSON of payload. An empty key means none. An error is that of encoding
// payload; whether the event can be stored, [Publish] checks.
func NewEvent(topic, key string, payload any) (Event, error) {
	raw, err := json.Marshal(payload)
	if err != nil {
		return Event{}, fmt.Errorf("encode payload of %q: %w", topic, err)
	}
	return Event{Topic: topic, Key: key, Payload: raw}, nil
}

// ErrInvalidEvent is what every *EventError is.
var ErrInvalidEvent = errors.New("invalid event")

// An EventError says which of the events to publish was refused, and why. Nothing was sent to the database.
type EventError struct {
	Index  int    // of the event among those to publish, from 0
	Field  string // "topic", "key", "payload" or "headers"
	Reason string
}

func (e *EventError) Error() string {
	return fmt.Sprintf("event %d: %s %s", e.Index, e.Field, e.Reason)
}

// Is makes errors.Is(err, ErrInvalidEvent) true.
func (e *EventError) Is(target error) bool { return target == ErrInvalidEvent }

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
