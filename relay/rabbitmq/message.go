package rabbitmq

import (
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/internal/inflight"
)

// maxShort is the longest name that AMQP knows: of an exchange, a routing key, a header.
const maxShort = 255

// A message is what is published, and what became of it.
type message struct {
	exchange, key string
	publishing    amqp.Publishing

	flight       *inflight.Flight
	confirmation *amqp.DeferredConfirmation
	returned     *amqp.Return
}

// newMessage returns what is published. The error says why no server would take it.
func (c Config) newMessage(m *relay.Message) (*message, error) {
	exchange, key := c.route(m.Destination)
	headers := make(amqp.Table, len(m.Headers))
	for name, value := range m.Headers {
		// These two would route the message elsewhere, or end the connection. Events only carry data.
		if name == "CC" || name == "BCC" {
			continue
		}
		if len(name) > maxShort {
			return nil, fmt.Errorf("the name of header %.20q… has %d bytes, AMQP allows %d", name, len(name), maxShort)
		}
		headers[name] = value
	}
	p := amqp.Publishing{
		Headers: headers, ContentType: m.ContentType, DeliveryMode: amqp.Persistent, MessageId: m.ID, Body: m.Body,
	}
	if m.Event != nil {
		p.Timestamp, p.Type = m.Event.PublishedAt, m.Event.Topic
	}
	for _, short := range []struct{ what, text string }{
		{"exchange", exchange}, {"routing key", key}, {"content type", p.ContentType}, {"message id", p.MessageId}, {"topic", p.Type},
	} {
		if len(short.text) > maxShort {
			return nil, fmt.Errorf("%s %.20q… has %d bytes, AMQP allows %d", short.what, short.text, len(short.text), maxShort)
		}
	}
	return &message{exchange: exchange, key: key, publishing: p}, nil
}

// route returns the exchange and routing key of a destination.
func (c Config) route(destination string) (exchange, key string) {
	if c.Exchange != "" {
		return c.Exchange, destination
	}
	if exchange, key, found := strings.Cut(destination, "/"); found {
		return exchange, key
	}
	return "", destination
}

// properties is how many bytes the properties of a message take at most. They have to fit into one frame.
func (m *message) properties() int {
	const fixed = 100
	n := fixed + len(m.publishing.ContentType) + len(m.publishing.MessageId) + len(m.publishing.Type)
	for name, value := range m.publishing.Headers {
		n += len(name) + len(value.(string)) + 6
	}
	return n
}
