package main

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/signalbox-go/signalbox/bench/systems"
	broker "github.com/signalbox-go/signalbox/brokers/rabbitmq"
	"github.com/signalbox-go/signalbox/relay"
	sinks "github.com/signalbox-go/signalbox/relay/rabbitmq"
)

var rabbitKind = kind{name: "rabbitmq", rate: 8_000, hotRate: 1_000, inFlight: relayInFlight, start: startRabbitMQ}

const rabbitQueue = "bench"

func startRabbitMQ(t testing.TB, p *place) {
	server := broker.Start(t, broker.Config{})
	url := "amqp://guest:guest@" + server.Address + "/"
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseDeadline(time.Now().Add(time.Second)) })
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	p.reset = func(context.Context) (string, error) {
		if _, err := channel.QueueDelete(rabbitQueue, false, false, false); err != nil {
			return "", err
		}
		_, err := channel.QueueDeclare(rabbitQueue, true, false, false, false, nil)
		return rabbitQueue, err // which the default exchange routes to
	}
	p.sink = func() (relay.Sink, error) { return sinks.New(sinks.Config{URL: server.URL()}) }
	p.bare = func() (client, error) { return newRabbitClient(url) }
	p.peer = newForwarder(url)
}

type rabbitClient struct {
	conn    *amqp.Connection
	channel *amqp.Channel
	ended   chan struct{}

	mu   sync.Mutex
	sent map[uint64]func(error)
}

func newRabbitClient(url string) (*rabbitClient, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return nil, err
	}
	c := &rabbitClient{conn: conn, sent: map[uint64]func(error){}, ended: make(chan struct{})}
	if c.channel, err = conn.Channel(); err == nil {
		err = c.channel.Confirm(false)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	confirms := c.channel.NotifyPublish(make(chan amqp.Confirmation, 2*relayInFlight))
	go func() {
		defer close(c.ended)
		for confirm := range confirms {
			c.mu.Lock()
			done := c.sent[confirm.DeliveryTag]
			delete(c.sent, confirm.DeliveryTag)
			c.mu.Unlock()
			if confirm.Ack {
				done(nil)
			} else {
				done(errors.New("basic.nack"))
			}
		}
	}()
	return c, nil
}

// send is called by one goroutine at a time.
func (c *rabbitClient) send(_ context.Context, m *relay.Message, done func(error)) {
	p := amqp.Publishing{
		Headers: make(amqp.Table, len(m.Headers)), ContentType: m.ContentType, DeliveryMode: amqp.Persistent, MessageId: m.ID, Body: m.Body,
		Timestamp: time.Now(), Type: systems.Topic,
	}
	for name, value := range m.Headers {
		p.Headers[name] = value
	}
	tag := c.channel.GetNextPublishSeqNo()
	c.mu.Lock()
	c.sent[tag] = done
	c.mu.Unlock()
	if _, err := c.channel.PublishWithDeferredConfirm("", m.Destination, true, false, p); err != nil {
		c.mu.Lock()
		delete(c.sent, tag)
		c.mu.Unlock()
		done(err)
	}
}

func (c *rabbitClient) close() {
	_ = c.conn.Close() // what it has sent is acknowledged
	<-c.ended
}
