package peers

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/signalbox-go/signalbox/bench/systems"
)

// watermillTopic is a table's name in watermill-sql.
const watermillTopic = "bench"

// watermillSQL is watermill-sql with its schema for PostgreSQL, over pgx.
type watermillSQL struct {
	info   systems.Info
	schema watermillsql.DefaultPostgreSQLSchema
	cfg    watermillsql.SubscriberConfig
}

func newWatermill(best bool) systems.System {
	w := &watermillSQL{info: systems.Info{
		Name: "watermill", Settings: "batches of 100, poll 1 s: the defaults", Rate: 5_000,
		Module: "github.com/ThreeDotsLabs/watermill-sql/v4", Concurrency: 1, TakesTurns: true, Fanout: true,
		Offers: systems.Offers{
			Fanout: "yes", Order: "yes: one message at a time in each group", ExactlyOnce: "yes, in the subscriber's transaction",
			Takeover: "when the connection ends", LostWakeup: "only polls", HeldSnapshot: "one row is updated per batch; waits for every open transaction of the cluster",
			DeadLetters: "no: a message that fails blocks its group", Replay: "a new group reads from the beginning",
		},
	}}
	if best {
		w.info.Name, w.info.Rate = "watermill-best", 50_000
		w.info.Settings = "batches of 5,000, poll 10 ms, no deadline for acks"
		w.schema.SubscribeBatchSize = 5_000
		w.cfg.PollInterval = 10 * time.Millisecond
		w.cfg.AckDeadline = new(time.Duration) // a context with a timer for each message otherwise
	}
	w.cfg.SchemaAdapter = w.schema
	w.cfg.OffsetsAdapter = watermillsql.DefaultPostgreSQLOffsetsAdapter{}
	return w
}

func (w *watermillSQL) Info() systems.Info { return w.info }

func (w *watermillSQL) Setup(_ context.Context, pool *pgxpool.Pool) error {
	s, err := watermillsql.NewSubscriber(watermillsql.BeginnerFromPgx(pool), w.cfg, watermill.NopLogger{})
	if err != nil {
		return err
	}
	if err := s.SubscribeInitialize(watermillTopic); err != nil {
		return err
	}
	return s.Close()
}

func (w *watermillSQL) Publish(ctx context.Context, tx pgx.Tx, events []systems.Event) error {
	p, err := watermillsql.NewPublisher(watermillsql.TxFromPgx(tx), watermillsql.PublisherConfig{SchemaAdapter: w.schema}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	messages := make([]*message.Message, len(events))
	for i, e := range events {
		messages[i] = message.NewMessageWithContext(ctx, watermill.NewUUID(), message.Payload(e.Payload))
	}
	return p.Publish(watermillTopic, messages...)
}

// Run has one subscriber for each consumer group: a second one in the same group would wait for the first.
func (w *watermillSQL) Run(ctx context.Context, pool *pgxpool.Pool, subscriptions []string, handle systems.Handler) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, name := range subscriptions {
		cfg := w.cfg
		cfg.ConsumerGroup = name
		s, err := watermillsql.NewSubscriber(watermillsql.BeginnerFromPgx(pool), cfg, watermill.NopLogger{})
		if err != nil {
			return err
		}
		// Its batches run under a context of their own: cancelling that would have them handled again.
		messages, err := s.Subscribe(context.WithoutCancel(ctx), watermillTopic)
		if err != nil {
			return err
		}
		group.Go(func() error {
			for {
				select {
				case <-groupCtx.Done():
					return s.Close()
				case m := <-messages:
					if err := handle(m.Context(), m.Payload); err != nil {
						m.Nack()
						continue
					}
					m.Ack()
				}
			}
		})
	}
	return group.Wait()
}
