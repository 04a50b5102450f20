package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
)

// forwarding is watermill's forwarder, from a table to RabbitMQ.
type forwarding struct {
	url    string
	schema watermillsql.DefaultPostgreSQLSchema
	cfg    watermillsql.SubscriberConfig
}

// forwarderTopic is the table that messages wait in.
const forwarderTopic = "bench"

func newForwarder(url string) systems.System {
	f := &forwarding{url: url, schema: watermillsql.DefaultPostgreSQLSchema{SubscribeBatchSize: 5_000}}
	f.cfg = watermillsql.SubscriberConfig{
		ConsumerGroup: "forwarder", PollInterval: 10 * time.Millisecond, AckDeadline: new(time.Duration),
		SchemaAdapter: f.schema, OffsetsAdapter: watermillsql.DefaultPostgreSQLOffsetsAdapter{},
	}
	return f
}

func (f *forwarding) Info() systems.Info {
	return systems.Info{
		Name: "watermill-forwarder", Settings: "to RabbitMQ with confirms; batches of 5,000, poll 10 ms, no deadline for acks", Rate: 2_000,
		Module: "github.com/ThreeDotsLabs/watermill-amqp/v3", Concurrency: 1, TakesTurns: true,
		Offers: systems.Offers{
			Fanout: "yes", Order: "yes: one message at a time", ExactlyOnce: "no", Takeover: "when the connection ends",
			LostWakeup: "only polls", HeldSnapshot: "waits for every open transaction of the cluster", DeadLetters: "no: a message that fails blocks all behind it",
			Replay: "a new group reads from the beginning",
		},
	}
}

func (f *forwarding) Setup(_ context.Context, pool *pgxpool.Pool) error {
	s, err := watermillsql.NewSubscriber(watermillsql.BeginnerFromPgx(pool), f.cfg, watermill.NopLogger{})
	if err != nil {
		return err
	}
	return errors.Join(s.SubscribeInitialize(forwarderTopic), s.Close())
}

func (f *forwarding) Publish(ctx context.Context, tx pgx.Tx, events []systems.Event) error {
	p, err := watermillsql.NewPublisher(watermillsql.TxFromPgx(tx), watermillsql.PublisherConfig{SchemaAdapter: f.schema}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	messages := make([]*message.Message, len(events))
	for i, e := range events {
		messages[i] = message.NewMessageWithContext(ctx, watermill.NewUUID(), message.Payload(e.Payload))
	}
	return forwarder.NewPublisher(p, forwarder.PublisherConfig{ForwarderTopic: forwarderTopic}).Publish(rabbitQueue, messages...)
}

// Run forwards messages, and tells the handler of each that RabbitMQ has acknowledged.
func (f *forwarding) Run(ctx context.Context, pool *pgxpool.Pool, _ []string, handle systems.Handler) error {
	s, err := watermillsql.NewSubscriber(watermillsql.BeginnerFromPgx(pool), f.cfg, watermill.NopLogger{})
	if err != nil {
		return err
	}
	cfg := amqp.NewDurableQueueConfig(f.url)
	cfg.Publish.ConfirmDelivery = true
	p, err := amqp.NewPublisher(cfg, watermill.NopLogger{})
	if err != nil {
		return errors.Join(err, s.Close())
	}
	defer func() { _ = p.Close() }()
	fw, err := forwarder.NewForwarder(s, acknowledged{p, handle}, watermill.NopLogger{}, forwarder.Config{ForwarderTopic: forwarderTopic})
	if err != nil {
		return errors.Join(err, s.Close())
	}
	ended := make(chan error, 1)
	go func() { ended <- fw.Run(context.WithoutCancel(ctx)) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return errors.Join(fw.Close(), <-ended)
	}
}

// acknowledged tells what was published.
type acknowledged struct {
	message.Publisher
	handle systems.Handler
}

func (a acknowledged) Publish(topic string, messages ...*message.Message) error {
	if err := a.Publisher.Publish(topic, messages...); err != nil {
		return err
	}
	for _, m := range messages {
		_ = a.handle(m.Context(), m.Payload) // it only measures
	}
	return nil
}

// peerDrains measures how fast a peer sends a backlog.
func peerDrains(e *stage.Env, p *place) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) error {
		n := e.Backlog(p.peer.Info().Rate)
		d, err := e.Filled(ctx, p.peer, n)
		if err != nil {
			return err
		}
		defer d.Close()
		if _, err := p.reset(ctx); err != nil {
			return err
		}
		var sent, first, last atomic.Int64
		m.Begin()
		stop := stage.StartWorker(ctx, p.peer, d, []string{systems.DefaultSubscription}, func(context.Context, []byte) error {
			at := time.Now().UnixNano()
			first.CompareAndSwap(0, at)
			last.Store(at)
			sent.Add(1)
			return nil
		})
		err = stage.Progress(ctx, n, sent.Load, func() error { return nil })
		m.End()
		if err = errors.Join(err, stop()); err != nil {
			return err
		}
		m.Set("rate", float64(n-1)/time.Duration(last.Load()-first.Load()).Seconds())
		return nil
	}
}

// peerLatency measures how long a peer takes at a rate.
func peerLatency(e *stage.Env, p *place, perSecond float64) func(context.Context, *stage.Measurement) error {
	return func(ctx context.Context, m *stage.Measurement) (err error) {
		d, err := e.Open(ctx, p.peer)
		if err != nil {
			return err
		}
		defer d.Close()
		if _, err := p.reset(ctx); err != nil {
			return err
		}
		service := stage.NewService(d, p.peer, stage.SteadyProducers, perSecond)
		stop := stage.StartWorker(ctx, p.peer, d, []string{systems.DefaultSubscription}, service.Handle)
		defer func() { err = errors.Join(err, stop()) }()
		span, err := observe(ctx, e, m, service)
		if err != nil {
			return err
		}
		latencies(m, span)
		return nil
	}
}
