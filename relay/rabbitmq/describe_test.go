package rabbitmq

import (
	"fmt"
	"testing"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ exchange, destination, want string }{
		{"", "orders/placed", "rabbitmq orders:placed [messaging.rabbitmq.destination.routing_key=placed]"},
		{"", "orders/", "rabbitmq orders []"},
		{"", "queue", "rabbitmq queue [messaging.rabbitmq.destination.routing_key=queue]"},
		{"", "/queue", "rabbitmq queue [messaging.rabbitmq.destination.routing_key=queue]"},
		{"", "/", "rabbitmq amq.default []"},
		{"events", "a/b", "rabbitmq events:a/b [messaging.rabbitmq.destination.routing_key=a/b]"},
	} {
		s := &Sink{config: Config{Exchange: test.exchange}}
		out := worker.Outgoing{Destination: test.destination}
		s.Describe(&out, &relay.Message{Destination: test.destination})
		if got := fmt.Sprint(out.System, " ", out.Destination, " ", out.Attributes); got != test.want {
			t.Errorf("%q of exchange %q is %s, want %s", test.destination, test.exchange, got, test.want)
		}
	}
}
