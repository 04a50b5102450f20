package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	broker "github.com/signalbox-go/signalbox/brokers/kafka"
	"github.com/signalbox-go/signalbox/relay"
	sinks "github.com/signalbox-go/signalbox/relay/kafka"
)

var kafkaKind = kind{name: "kafka", rate: 15_000, hotRate: 15_000, inFlight: relayInFlight, start: startKafka}

const kafkaPartitions = 3

func startKafka(t testing.TB, p *place) {
	b := broker.New(t)
	conn, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	admin := kadm.NewClient(conn)
	topics := 0
	p.reset = func(ctx context.Context) (string, error) {
		if topics > 0 {
			if _, err := admin.DeleteTopic(ctx, kafkaTopic(topics)); err != nil {
				return "", err
			}
		}
		topics++
		if _, err := admin.CreateTopic(ctx, kafkaPartitions, 1, nil, kafkaTopic(topics)); err != nil {
			return "", err
		}
		return kafkaTopic(topics), stage.Await(ctx, time.Minute, "the broker knows the topic", func() bool {
			details, err := admin.ListTopics(ctx, kafkaTopic(topics))
			return err == nil && len(details[kafkaTopic(topics)].Partitions) == kafkaPartitions && details[kafkaTopic(topics)].Partitions.NumReplicas() > 0
		})
	}
	p.sink = func() (relay.Sink, error) {
		return sinks.New(sinks.Config{Brokers: []string{b.Addr}, Logger: systems.Quiet})
	}
	p.bare = func() (client, error) {
		c, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(kgo.SnappyCompression()), kgo.ProducerLinger(time.Millisecond))
		return kafkaClient{c}, err
	}
}

func kafkaTopic(n int) string { return fmt.Sprint("bench-", n) }

type kafkaClient struct{ *kgo.Client }

func (c kafkaClient) send(ctx context.Context, m *relay.Message, done func(error)) {
	r := &kgo.Record{Topic: m.Destination, Key: []byte(m.Key), Value: m.Body, Headers: make([]kgo.RecordHeader, 0, len(m.Headers))}
	for name, value := range m.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	c.Produce(ctx, r, func(_ *kgo.Record, err error) { done(err) })
}

func (c kafkaClient) close() { c.Close() }
