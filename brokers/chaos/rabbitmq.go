package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	server "github.com/signalbox-go/signalbox/brokers/rabbitmq"
	"github.com/signalbox-go/signalbox/relay"
	sinks "github.com/signalbox-go/signalbox/relay/rabbitmq"
)

// Faults of RabbitMQ.
const (
	diskFull  = "disk full"
	queueFull = "queue full"
)

const rabbitQueue = "chaos"

var rabbitPlace = place{
	name: "rabbitmq", poison: 40 << 10, start: startRabbitMQ,
	open: func(text string) (relay.Sink, error) {
		u, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		cfg, err := sinks.FromURL(u)
		if err != nil {
			return nil, err
		}
		return sinks.New(cfg)
	},
	own: []kind{
		{name: diskFull, least: time.Second, most: 4 * time.Second, run: ownFault},
		{name: queueFull, least: time.Second, most: 4 * time.Second, run: fillQueue},
	},
}

func startRabbitMQ(t testing.TB, w *world) *broker {
	s := server.Start(t, server.Config{Text: "max_message_size = 32768"})
	address, err := w.open(s.Address)
	if err != nil {
		t.Fatal(err)
	}
	amqpURL := "amqp://guest:guest@" + s.Address + "/"
	if err := over(amqpURL, func(c *amqp.Channel) error {
		// When a queue gets a limit, it drops what it has too much, unless it rejects already.
		_, err := c.QueueDeclare(rabbitQueue, true, false, false, false, amqp.Table{"x-overflow": "reject-publish"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// A server that is killed may have forgotten what was declared just before.
	s.Stop(t)
	s.Restart(t)
	return &broker{
		url: "amqp://" + address + "?ack-timeout=3s", destination: rabbitQueue,
		kill: s.Kill, restart: s.Restart, freeze: s.Freeze, thaw: s.Thaw,
		begin: func(_ context.Context, t testing.TB, fault string) error {
			if fault == diskFull {
				return s.Control(t, "set_disk_free_limit", "9000GB")
			}
			return s.Control(t, "set_policy", "full", "^"+rabbitQueue+"$", `{"max-length":1}`, "--apply-to", "queues")
		},
		end: func(_ context.Context, t testing.TB, fault string) error {
			if fault == diskFull {
				return s.Control(t, "set_disk_free_limit", "1MB")
			}
			return s.Control(t, "clear_policy", "full")
		},
		received: func(ctx context.Context, _ testing.TB) (list []received, err error) {
			return list, over(amqpURL, func(c *amqp.Channel) error {
				list, err = takeQueue(ctx, c)
				return err
			})
		},
	}
}

// fillQueue has the queue reject what comes. RabbitMQ must not be killed meanwhile: a queue that is read from the disk drops what it has too
// much, before it knows that it rejects.
func fillQueue(ctx context.Context, w *world, f *fault) error {
	w.killing.Lock()
	defer w.killing.Unlock()
	return ownFault(ctx, w, f)
}

// over does something over a connection of its own.
func over(address string, do func(*amqp.Channel) error) error {
	conn, err := amqp.Dial(address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseDeadline(time.Now().Add(time.Second)) }()
	channel, err := conn.Channel()
	if err != nil {
		return err
	}
	return do(channel)
}

// takeQueue takes what a queue has, in its order.
func takeQueue(ctx context.Context, c *amqp.Channel) (list []received, err error) {
	queue, err := c.QueueDeclarePassive(rabbitQueue, true, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	deliveries, err := c.ConsumeWithContext(ctx, rabbitQueue, "", true, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	for len(list) < queue.Messages {
		select {
		case d, open := <-deliveries:
			if !open {
				return nil, errors.New("the connection was lost")
			}
			list = append(list, newReceived(d.MessageId, fmt.Sprint(d.Headers[senderHeader]), d.Body))
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d messages: %w", len(list), queue.Messages, ctx.Err())
		}
	}
	return list, nil
}
