package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	server "github.com/signalbox-go/signalbox/brokers/kafka"
	"github.com/signalbox-go/signalbox/relay"
	sinks "github.com/signalbox-go/signalbox/relay/kafka"
)

// Faults of a topic.
const (
	tooFewReplicas = "topic refuses: too few replicas"
	quota          = "quota"
)

const kafkaTopic = "chaos"

var kafkaPlace = place{
	name: "kafka", poison: 40 << 10, start: startKafka,
	open: func(text string) (relay.Sink, error) {
		u, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		cfg, err := sinks.FromURL(u)
		if err != nil {
			return nil, err
		}
		cfg.Logger = slog.New(slog.DiscardHandler)
		return sinks.New(cfg)
	},
	own: []kind{
		{name: tooFewReplicas, least: 500 * time.Millisecond, most: 4 * time.Second, run: ownFault},
		{name: quota, least: time.Second, most: 4 * time.Second, run: ownFault},
	},
}

func startKafka(t testing.TB, w *world) *broker {
	address := ""
	b := server.NewBehind(t, func(target string) (string, error) {
		var err error
		address, err = w.open(target)
		return address, err
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	admin := kadm.NewClient(client)
	limit, partitions := "32768", 3
	if _, err := admin.CreateTopic(t.Context(), int32(partitions), 1, map[string]*string{"max.message.bytes": &limit}, kafkaTopic); err != nil {
		t.Fatal(err)
	}
	if err := w.await(t.Context(), time.Minute, "the broker knows the topic", func() bool {
		details, err := admin.ListTopics(t.Context(), kafkaTopic)
		return err == nil && len(details[kafkaTopic].Partitions) == partitions && details[kafkaTopic].Partitions.NumReplicas() > 0
	}); err != nil {
		t.Fatal(err)
	}
	change := func(ctx context.Context, fault string, begins bool) error {
		if fault == quota {
			return throttle(ctx, admin, begins)
		}
		replicas := "1"
		if begins {
			replicas = "2"
		}
		responses, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "min.insync.replicas", Value: &replicas}}, kafkaTopic)
		if err == nil {
			_, err = responses.On(kafkaTopic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
		}
		return err
	}
	return &broker{
		url: "kafka://" + address, destination: kafkaTopic,
		kill: b.Kill, restart: func(t testing.TB) {
			if err := b.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		freeze: func(testing.TB) { b.Freeze() }, thaw: b.Thaw,
		begin:    func(ctx context.Context, _ testing.TB, fault string) error { return change(ctx, fault, true) },
		end:      func(ctx context.Context, _ testing.TB, fault string) error { return change(ctx, fault, false) },
		received: func(ctx context.Context, _ testing.TB) ([]received, error) { return readTopic(ctx, b.Addr, admin) },
	}
}

// throttle lets the relays send a thousand bytes a second, or as many as they want.
func throttle(ctx context.Context, admin *kadm.Client, begins bool) error {
	name := "signalbox"
	altered, err := admin.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{
		Entity: kadm.ClientQuotaEntity{{Type: "client-id", Name: &name}},
		Ops:    []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: 1000, Remove: !begins}},
	}})
	if err != nil {
		return err
	}
	for _, a := range altered {
		if a.Err != nil {
			return a.Err
		}
	}
	return nil
}

// readTopic returns what a topic has, in the order of each partition.
func readTopic(ctx context.Context, address string, admin *kadm.Client) ([]received, error) {
	ends, err := admin.ListEndOffsets(ctx, kafkaTopic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, err
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumeTopics(kafkaTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	list := make([]received, 0, left)
	for int64(len(list)) < left {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%d of %d records: %w", len(list), left, ctx.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			headers := map[string]string{}
			for _, h := range r.Headers {
				headers[h.Key] = string(h.Value)
			}
			list = append(list, newReceived(headers["message-id"], headers[senderHeader], r.Value))
		})
	}
	return list, nil
}
