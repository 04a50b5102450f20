package conformance_test

import (
	"testing"

	"github.com/signalbox-go/signalbox/brokers/nats"
	"github.com/signalbox-go/signalbox/relay/sinktest"
)

func TestMain(m *testing.M) {
	nats.Main()
	sinktest.Main(m)
}
