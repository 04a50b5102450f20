package webhook

import (
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

var _ relay.Describer = (*Sink)(nil)

// Describe says what traces show of a message. See [relay.Describer].
func (s *Sink) Describe(out *worker.Outgoing, _ *relay.Message) { out.System = "webhook" }
