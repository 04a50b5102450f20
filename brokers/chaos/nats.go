package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	server "github.com/signalbox-go/signalbox/brokers/nats"
	"github.com/signalbox-go/signalbox/relay"
	sinks "github.com/signalbox-go/signalbox/relay/nats"
)

// Faults of a stream.
const (
	streamFull    = "stream full"
	streamRefuses = "stream takes another subject"
)

var natsPlace = place{
	name: "nats", poison: 40 << 10, start: startNATS,
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
		{name: streamFull, least: 500 * time.Millisecond, most: 4 * time.Second, run: ownFault},
		{name: streamRefuses, least: 500 * time.Millisecond, most: 4 * time.Second, run: ownFault},
	},
}

func startNATS(t testing.TB, w *world) *broker {
	s := server.StartProcess(t, "max_payload: 32KB")
	address, err := w.open(s.Address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect(s.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	const subject = "chaos"
	// What the stream has stored already, it drops for the shortest time that there is.
	stream := jetstream.StreamConfig{Name: "CHAOS", Subjects: []string{subject}, Duplicates: 100 * time.Millisecond, Discard: jetstream.DiscardNew, MaxMsgs: -1}
	if _, err := js.CreateStream(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	change := func(ctx context.Context, fault string, begins bool) error {
		switch {
		case fault == streamRefuses && begins:
			stream.Subjects = []string{"elsewhere"}
		case fault == streamRefuses:
			stream.Subjects = []string{subject}
		case begins:
			stream.MaxMsgs = 1 // or as many as there are
		default:
			stream.MaxMsgs = -1
		}
		_, err := js.UpdateStream(ctx, stream)
		return err
	}
	return &broker{
		url: "nats://" + address + "?ack-timeout=3s", destination: subject,
		kill: s.Kill, restart: s.Restart, freeze: s.Freeze, thaw: s.Thaw,
		begin:    func(ctx context.Context, _ testing.TB, fault string) error { return change(ctx, fault, true) },
		end:      func(ctx context.Context, _ testing.TB, fault string) error { return change(ctx, fault, false) },
		received: func(ctx context.Context, _ testing.TB) ([]received, error) { return readStream(ctx, js, stream.Name) },
	}
}

// readStream returns what a stream has, in its order.
func readStream(ctx context.Context, js jetstream.JetStream, name string) ([]received, error) {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	left := stream.CachedInfo().State.Msgs
	consumer, err := js.OrderedConsumer(ctx, name, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, err
	}
	list := make([]received, 0, left)
	for uint64(len(list)) < left {
		batch, err := consumer.Fetch(int(min(left-uint64(len(list)), 1000)), jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			return nil, err
		}
		for m := range batch.Messages() {
			list = append(list, newReceived(m.Headers().Get(jetstream.MsgIDHeader), m.Headers().Get(senderHeader), m.Data()))
		}
		if err := batch.Error(); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%d of %d messages: %w", len(list), left, ctx.Err())
		}
	}
	return list, nil
}
