package kafka

import (
	"log/slog"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

var _ relay.Describer = (*Sink)(nil)

// Describe says what traces show of a message. See [relay.Describer].
func (s *Sink) Describe(out *worker.Outgoing, m *relay.Message) {
	out.System = "kafka"
	if m.Key != "" {
		out.Attributes = append(out.Attributes, slog.String("messaging.kafka.message.key", m.Key))
	}
	if m.Body == nil {
		out.Attributes = append(out.Attributes, slog.Bool("messaging.kafka.message.tombstone", true))
	}
}
