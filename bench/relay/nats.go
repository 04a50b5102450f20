package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/signalbox-go/signalbox/bench/systems"
	broker "github.com/signalbox-go/signalbox/brokers/nats"
	"github.com/signalbox-go/signalbox/relay"
	sinks "github.com/signalbox-go/signalbox/relay/nats"
)

var natsKind = kind{name: "nats", rate: 15_000, hotRate: 3_000, inFlight: relayInFlight, start: startNATS}

func startNATS(t testing.TB, p *place) {
	server := broker.StartProcess(t, "")
	conn, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	const stream = "BENCH"
	p.reset = func(ctx context.Context) (string, error) {
		if err := js.DeleteStream(ctx, stream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return "", err
		}
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: stream, Subjects: []string{systems.Topic}})
		return systems.Topic, err
	}
	p.sink = func() (relay.Sink, error) { return sinks.New(sinks.Config{URL: server.URL(), Logger: systems.Quiet}) }
	p.bare = func() (client, error) { return newNATSClient(server.URL()) }
}

type natsClient struct {
	js jetstream.JetStream

	mu   sync.Mutex
	sent map[*nats.Msg]func(error)
}

func newNATSClient(url string) (*natsClient, error) {
	conn, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	c := &natsClient{sent: map[*nats.Msg]func(error){}}
	c.js, err = jetstream.New(conn,
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, _ *jetstream.PubAck) { c.answer(m, nil) }),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) { c.answer(m, err) }))
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *natsClient) send(_ context.Context, m *relay.Message, done func(error)) {
	msg := &nats.Msg{Subject: m.Destination, Data: m.Body, Header: make(nats.Header, len(m.Headers)+1)}
	for name, value := range m.Headers {
		msg.Header[name] = []string{value}
	}
	msg.Header[jetstream.MsgIDHeader] = []string{m.ID}
	c.mu.Lock()
	c.sent[msg] = done
	c.mu.Unlock()
	if _, err := c.js.PublishMsgAsync(msg); err != nil {
		c.answer(msg, fmt.Errorf("publish: %w", err))
	}
}

func (c *natsClient) answer(m *nats.Msg, err error) {
	c.mu.Lock()
	done := c.sent[m]
	delete(c.sent, m)
	c.mu.Unlock()
	if done != nil {
		done(err)
	}
}

func (c *natsClient) close() { c.js.Conn().Close() }
