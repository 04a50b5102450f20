package systems

import (
	"cmp"
	"context"
	"encoding/json"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// Signalbox is the name of the system that the others are compared with.
const Signalbox = "signalbox"

// copyFrom is from how many events on a transaction copies them, instead of inserting them.
const copyFrom = 100

type signalbox struct{ hooks []worker.Hooks }

// New returns Signalbox as it is by default.
func New() System { return &signalbox{} }

// WithHooks returns Signalbox with hooks in its workers.
func WithHooks(hooks ...worker.Hooks) System { return &signalbox{hooks} }

func (*signalbox) Info() Info {
	return Info{
		Name: Signalbox, Settings: "the defaults: windows of up to 5,120 events, 100 handlers at once, worker.Handle",
		Rate: math.Inf(1), Concurrency: 100, Fanout: true,
		Offers: Offers{
			Fanout: "yes", Order: "yes, with handlers in parallel, through retries", ExactlyOnce: "yes (HandleTx, HandleBatchTx)",
			Takeover: "about 2 s, detected", LostWakeup: "polls each second", HeldSnapshot: "no row is updated at the rate of the traffic",
			DeadLetters: "yes", Replay: "yes: a subscription from a time or an id, or the events that match a filter",
		},
	}
}

func (*signalbox) Setup(ctx context.Context, pool *pgxpool.Pool) error {
	return pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return apply.Up(ctx, c.Conn(), migrations.Outbox) })
}

func (*signalbox) Publish(ctx context.Context, tx pgx.Tx, events []Event) error {
	if len(events) >= copyFrom {
		_, err := outbox.PublishFrom(ctx, tx, func(yield func(outbox.Event, error) bool) {
			for _, e := range events {
				if !yield(outbox.Event{Topic: cmp.Or(e.Topic, Topic), Key: e.Key, Payload: e.Payload}, nil) {
					return
				}
			}
		})
		return err
	}
	list := make([]outbox.Event, len(events))
	for i, e := range events {
		list[i] = outbox.Event{Topic: cmp.Or(e.Topic, Topic), Key: e.Key, Payload: e.Payload}
	}
	_, err := outbox.Publish(ctx, tx, list...)
	return err
}

func (s *signalbox) Run(ctx context.Context, pool *pgxpool.Pool, subscriptions []string, handle Handler) error {
	w, err := worker.New(pool, worker.Config{Logger: Quiet, Hooks: s.hooks})
	if err != nil {
		return err
	}
	for _, name := range subscriptions {
		name, topic := TopicOf(name)
		err := worker.Handle(w, worker.Subscription{Name: name, Topics: []string{topic}},
			func(ctx context.Context, e *worker.Event[json.RawMessage]) error { return handle(ctx, e.Payload) })
		if err != nil {
			return err
		}
	}
	return w.Run(ctx)
}
