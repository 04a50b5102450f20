package rabbitmq

import (
	"cmp"
	"log/slog"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

var _ relay.Describer = (*Sink)(nil)

// Describe says what traces show of a message. See [relay.Describer]. OpenTelemetry's conventions name a destination by exchange and routing
// key, without the default exchange.
func (s *Sink) Describe(out *worker.Outgoing, m *relay.Message) {
	exchange, key := s.config.route(m.Destination)
	out.System = "rabbitmq"
	if out.Destination = cmp.Or(exchange, key, "amq.default"); exchange != "" && key != "" {
		out.Destination = exchange + ":" + key
	}
	if key != "" {
		out.Attributes = append(out.Attributes, slog.String("messaging.rabbitmq.destination.routing_key", key))
	}
}
