package relay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/signalbox-go/signalbox/outbox"
)

// An Encoding says how an event is written into a message.
type Encoding int

const (
	// CloudEventsBinary writes the attributes of CloudEvents 1.0 as headers, and the unchanged payload as body.
	CloudEventsBinary Encoding = iota

	// CloudEventsStructured writes a JSON object with attributes and payload as body, of type application/cloudevents+json.
	CloudEventsStructured

	// Plain writes the unchanged payload as body, the event's headers, and its UID as header message-id.
	Plain
)

// String returns the name that configuration files and flags have for the encoding.
func (e Encoding) String() string {
	if e < 0 || int(e) >= len(encodings) {
		return fmt.Sprintf("Encoding(%d)", int(e))
	}
	return encodings[e]
}

// UnmarshalText accepts the names that String returns.
func (e *Encoding) UnmarshalText(text []byte) error {
	i := slices.Index(encodings, string(text))
	if i < 0 {
		return fmt.Errorf("encoding is %q, must be %s", text, strings.Join(encodings, ", "))
	}
	*e = Encoding(i)
	return nil
}

var encodings = []string{"cloudevents", "cloudevents-structured", "plain"}

// Config says where events go and how they are written.
type Config struct {
	// Route says where events go. Defaults to the topic as destination, and the key as key.
	Route Router

	// Encoding says how events are written. Defaults to CloudEventsBinary.
	Encoding Encoding

	// Source is the attribute source of CloudEvents: a URI that identifies the publisher, such as https://shop.example/orders. Required, unless
	// Encoding is Plain.
	Source string

	// Extensions are further attributes of each CloudEvent. Their names have letters a to z and digits only. Defaults to none.
	Extensions map[string]string
}

// AttributePrefix is an optional interface of sinks, for systems in which headers with attributes of CloudEvents do not begin with "ce-".
type AttributePrefix interface {
	// AttributePrefix returns what they begin with.
	AttributePrefix() string
}

// An Encoder turns events into messages. Safe for concurrent use.
type Encoder struct {
	cfg    Config
	prefix string
}

// NewEncoder returns an encoder of messages for a sink, as [Handle] uses it. It returns an error that says what is wrong with cfg.
func NewEncoder(sink Sink, cfg Config) (*Encoder, error) {
	e := &Encoder{cfg: cfg, prefix: "ce-"}
	if p, ok := sink.(AttributePrefix); ok {
		e.prefix = p.AttributePrefix()
	}
	if e.cfg.Route == nil {
		e.cfg.Route = byTopic
	}
	e.cfg.Extensions = maps.Clone(cfg.Extensions)
	switch {
	case cfg.Encoding < 0 || int(cfg.Encoding) >= len(encodings):
		return nil, fmt.Errorf("encoding is %d, must be CloudEventsBinary, CloudEventsStructured or Plain", cfg.Encoding)
	case cfg.Encoding == Plain && (cfg.Source != "" || len(cfg.Extensions) > 0):
		return nil, errors.New("source and extensions are attributes of CloudEvents, and the encoding is plain: leave them out")
	case cfg.Encoding == Plain:
		return e, nil
	case cfg.Source == "":
		return nil, errors.New("source is empty: CloudEvents need a URI that identifies the publisher, such as https://shop.example/orders")
	}
	for name := range cfg.Extensions {
		if slices.Contains(ownAttributes, name) {
			return nil, fmt.Errorf("extension %q: the relay sets this attribute itself: name yours otherwise", name)
		}
	}
	probe := outbox.Event{ID: 1, UID: "a", Topic: "a", Key: "a", Payload: json.RawMessage("null")}
	if _, err := e.cloudEvent(&probe, ""); err != nil {
		return nil, err
	}
	return e, nil
}

// ownAttributes are those that the relay sets.
var ownAttributes = []string{
	"id", "source", "specversion", "type", "subject", "time", "datacontenttype", "dataschema", "data", "partitionkey", "sequence", "traceparent", "tracestate",
}

// Message returns the message for an event, or nil if its route drops it. It returns an error if the event has no route.
func (e *Encoder) Message(ev *outbox.Event) (*Message, error) {
	m, err := e.address(ev)
	if err != nil || m == nil {
		return nil, err
	}
	if err := e.encode(m); err != nil {
		return nil, err
	}
	return m, nil
}

// address makes the message of an event, as far as its route says it: the encoding is to come. It is nil if the route drops the event.
func (e *Encoder) address(ev *outbox.Event) (*Message, error) {
	route, err := e.cfg.Route(ev)
	switch {
	case err != nil:
		return nil, fmt.Errorf("route: %w", err)
	case route.Drop:
		return nil, nil
	case route.Destination == "":
		return nil, errors.New("route: the destination is empty")
	}
	m := &Message{
		ID: ev.UID, Destination: route.Destination, Key: route.Key, ContentType: "application/json", Event: ev, template: route.Template,
		Headers: make(map[string]string, len(ev.Headers)+len(route.Headers)+10),
	}
	maps.Copy(m.Headers, ev.Headers)
	maps.Copy(m.Headers, route.Headers)
	if !bytes.Equal(bytes.TrimSpace(ev.Payload), []byte("null")) {
		m.Body = ev.Payload
	}
	return m, nil
}

// encode writes the event into its message.
func (e *Encoder) encode(m *Message) error {
	if e.cfg.Encoding == Plain {
		m.Headers["message-id"] = m.ID
		return nil
	}
	c, err := e.cloudEvent(m.Event, m.Key)
	if err != nil {
		return err
	}
	addTrace(c, m)
	if e.cfg.Encoding == CloudEventsStructured {
		m.ContentType = event.ApplicationCloudEventsJSON
		if m.Body, err = json.Marshal(c); err != nil {
			return fmt.Errorf("encode as CloudEvent: %w", err)
		}
		return nil
	}
	return e.addAttributes(m.Headers, c)
}

// addTrace adds the attributes that say in which trace an event began: its publisher's, whatever a tracer has made of the message's headers; or else
// the message's own.
func addTrace(c *event.Event, m *Message) {
	from := m.Event.Headers
	if header(from, "traceparent") == "" {
		from = m.Headers
	}
	for _, name := range []string{"traceparent", "tracestate"} {
		if value := header(from, name); value != "" {
			c.SetExtension(name, value)
		}
	}
}

// header returns a header by its name in lower case, or in any other.
func header(headers map[string]string, name string) string {
	if value, has := headers[name]; has {
		return value
	}
	for other, value := range headers {
		if strings.EqualFold(other, name) {
			return value
		}
	}
	return ""
}

// cloudEvent returns an event as a CloudEvent.
func (e *Encoder) cloudEvent(ev *outbox.Event, key string) (*event.Event, error) {
	c := event.New(event.CloudEventsVersionV1)
	c.SetID(ev.UID)
	c.SetSource(e.cfg.Source)
	c.SetType(ev.Topic)
	c.SetTime(ev.PublishedAt)
	if ev.Key != "" {
		c.SetSubject(ev.Key)
	}
	if key != "" {
		c.SetExtension("partitionkey", key)
	}
	c.SetExtension("sequence", fmt.Sprintf("%019d", ev.ID)) // as text, it sorts as the log
	for name, value := range e.cfg.Extensions {
		c.SetExtension(name, value)
	}
	if err := c.SetData(event.ApplicationJSON, []byte(ev.Payload)); err != nil {
		return nil, fmt.Errorf("encode as CloudEvent: %w", err)
	}
	c.DataBase64 = false // it is JSON, and stays readable
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("encode as CloudEvent: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	return &c, nil
}

// addAttributes adds the attributes of a CloudEvent to headers. What an event has itself by these names gives way.
func (e *Encoder) addAttributes(headers map[string]string, c *event.Event) error {
	for name := range headers {
		if strings.HasPrefix(strings.ToLower(name), strings.ToLower(e.prefix)) {
			delete(headers, name)
		}
	}
	headers[e.prefix+"specversion"] = c.SpecVersion()
	headers[e.prefix+"id"] = c.ID()
	headers[e.prefix+"source"] = c.Source()
	headers[e.prefix+"type"] = c.Type()
	headers[e.prefix+"time"] = types.FormatTime(c.Time())
	if subject := c.Subject(); subject != "" {
		headers[e.prefix+"subject"] = subject
	}
	for name, value := range c.Extensions() {
		text, err := types.Format(value)
		if err != nil {
			return fmt.Errorf("encode as CloudEvent: attribute %s: %w", name, err)
		}
		headers[e.prefix+name] = text
	}
	return nil
}
