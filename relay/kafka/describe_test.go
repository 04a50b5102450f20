package kafka

import (
	"fmt"
	"testing"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		m    relay.Message
		want string
	}{
		{relay.Message{Key: "A-17", Body: []byte("1")}, "kafka orders [messaging.kafka.message.key=A-17]"},
		{relay.Message{Body: []byte("1")}, "kafka orders []"},
		{relay.Message{Key: "A-17"}, "kafka orders [messaging.kafka.message.key=A-17 messaging.kafka.message.tombstone=true]"},
	} {
		out := worker.Outgoing{Destination: "orders"}
		(&Sink{}).Describe(&out, &test.m)
		if got := fmt.Sprint(out.System, " ", out.Destination, " ", out.Attributes); got != test.want {
			t.Errorf("%+v is %s, want %s", test.m, got, test.want)
		}
	}
}
