package conformance_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	broker "github.com/signalbox-go/signalbox/brokers/kafka"
	"github.com/signalbox-go/signalbox/relay"
	sinks "github.com/signalbox-go/signalbox/relay/kafka"
	"github.com/signalbox-go/signalbox/relay/sinktest"
)

func TestKafka(t *testing.T) { //nolint:paralleltest // they stop one broker
	const largest = 100_000
	b := broker.New(t)
	topics := 0
	limit := fmt.Sprint(largest)
	sinktest.Run(t, sinktest.Target{
		New: func(t *testing.T) relay.Sink {
			sink, err := sinks.New(sinks.Config{Brokers: []string{b.Addr}, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return sink
		},
		Destination: func(t *testing.T) string {
			topics++
			name := fmt.Sprint("topic-", topics)
			client := kafkaClient(t, b)
			defer client.Close()
			admin := kadm.NewClient(client)
			if _, err := admin.CreateTopic(t.Context(), 3, 1, map[string]*string{"max.message.bytes": &limit}, name); err != nil {
				t.Fatal(err)
			}
			for {
				details, err := admin.ListTopics(t.Context(), name)
				if err == nil && details.Has(name) && len(details[name].Partitions) == 3 && details[name].Partitions.NumReplicas() > 0 {
					return name
				}
				time.Sleep(50 * time.Millisecond) // the broker learns of it from the controller
			}
		},
		Received: func(t *testing.T, topic string) []sinktest.Received { return consume(t, b, topic) },
		Stop:     func(*testing.T) { b.Kill() },
		Start: func(t *testing.T) {
			if err := b.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		Freeze:   func(*testing.T) { b.Freeze() },
		Thaw:     func(*testing.T) { b.Thaw() },
		TooLarge: largest, Missing: "missing",
	})
}

func kafkaClient(t *testing.T, b *broker.Broker, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(b.Addr))...)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// consume returns all records of a topic.
func consume(t *testing.T, b *broker.Broker, topic string) []sinktest.Received {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := kafkaClient(t, b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	var received []sinktest.Received
	for int64(len(received)) < left {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records: %v", len(received), left, ctx.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			m := sinktest.Received{Key: string(r.Key), Headers: map[string]string{}, Body: r.Value}
			for _, h := range r.Headers {
				m.Headers[h.Key] = string(h.Value)
			}
			m.ID = m.Headers["message-id"]
			received = append(received, m)
		})
	}
	return received
}
