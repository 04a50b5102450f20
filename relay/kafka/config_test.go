package kafka_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/signalbox-go/signalbox/relay/kafka"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The client cannot undo these, so they are refused.
func TestRefusedOptions(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]kgo.Opt{
		"DisableIdempotentWrite":             kgo.DisableIdempotentWrite(),
		"AllowIdempotentProduceCancellation": kgo.AllowIdempotentProduceCancellation(),
		"StopProducerOnDataLossDetected":     kgo.StopProducerOnDataLossDetected(),
		"ManualFlushing":                     kgo.ManualFlushing(),
		"AllowAutoTopicCreation":             kgo.AllowAutoTopicCreation(),
		"TransactionalID":                    kgo.TransactionalID("relay"),
	} {
		s, err := kafka.New(kafka.Config{Brokers: []string{"a:1"}, Options: []kgo.Opt{option}})
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "option kgo."+name) || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The others are overridden, or stay.
func TestOverriddenOptions(t *testing.T) {
	t.Parallel()
	s, err := kafka.New(kafka.Config{Brokers: []string{"a:1"}, Options: []kgo.Opt{
		kgo.RequiredAcks(kgo.LeaderAck()), kgo.RecordRetries(1), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.MaxBufferedRecords(1),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
