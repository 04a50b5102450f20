package peers

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	riverqueue "github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/signalbox-go/signalbox/bench/systems"
)

// river is riverqueue/river with its pgx driver.
type river struct {
	info systems.Info
	cfg  riverqueue.Config

	// inserter publishes: a client without queues, made once.
	inserter func() (*riverqueue.Client[pgx.Tx], error)
}

// newRiver is the configuration of River's examples, or that of its own benchmark, about which its comments say that other
// figures were slower.
func newRiver(best bool) systems.System {
	r := &river{
		info: systems.Info{
			Name: "river", Settings: "100 workers, fetch cooldown 100 ms, poll 1 s: the defaults, and the workers of its examples", Rate: 950, Concurrency: 100,
			Module: "github.com/riverqueue/river",
			Offers: systems.Offers{
				Fanout: "no: a job has one worker", Order: "no (paid)", ExactlyOnce: "a job may be completed in its worker's transaction",
				Takeover: "1 h by default", LostWakeup: "polls each second", HeldSnapshot: "each job is inserted, updated twice and deleted",
				DeadLetters: "discarded jobs are kept 7 days", Replay: "no",
			},
		},
		cfg:      riverqueue.Config{Queues: map[string]riverqueue.QueueConfig{riverqueue.QueueDefault: {MaxWorkers: 100}}},
		inserter: sync.OnceValues(newInserter),
	}
	if best {
		r.info.Name, r.info.Rate, r.info.Concurrency = "river-best", 20_000, 1000
		r.info.Settings = "1,000 workers, fetch cooldown 2 ms, poll 20 ms: those of its own benchmark"
		r.cfg.FetchCooldown, r.cfg.FetchPollInterval = 2*time.Millisecond, 20*time.Millisecond
		r.cfg.Queues = map[string]riverqueue.QueueConfig{riverqueue.QueueDefault: {MaxWorkers: 1000}}
	}
	return r
}

func newInserter() (*riverqueue.Client[pgx.Tx], error) {
	return riverqueue.NewClient(riverpgxv5.New(nil), &riverqueue.Config{Logger: systems.Quiet})
}

func (r *river) Info() systems.Info { return r.info }

func (r *river) Setup(ctx context.Context, pool *pgxpool.Pool) error {
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: systems.Quiet})
	if err != nil {
		return fmt.Errorf("migrate River: %w", err)
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// job is the arguments of a River job: the payload as it is, so that River need not decode it either.
type job struct {
	kind    string
	payload json.RawMessage
}

func (j job) Kind() string                    { return cmp.Or(j.kind, systems.Topic) }
func (j job) MarshalJSON() ([]byte, error)    { return j.payload, nil }
func (j *job) UnmarshalJSON(raw []byte) error { j.payload = append(j.payload[:0], raw...); return nil }

func (r *river) Publish(ctx context.Context, tx pgx.Tx, events []systems.Event) error {
	client, err := r.inserter()
	if err != nil {
		return err
	}
	if len(events) == 1 {
		_, err := client.InsertTx(ctx, tx, job{events[0].Topic, events[0].Payload}, nil)
		return err
	}
	params := make([]riverqueue.InsertManyParams, len(events))
	for i, e := range events {
		params[i] = riverqueue.InsertManyParams{Args: job{e.Topic, e.Payload}}
	}
	_, err = client.InsertManyFastTx(ctx, tx, params)
	return err
}

func (r *river) Run(ctx context.Context, pool *pgxpool.Pool, subscriptions []string, handle systems.Handler) error {
	cfg := r.cfg
	cfg.Logger = systems.Quiet
	cfg.Workers = riverqueue.NewWorkers()
	work := riverqueue.WorkFunc(func(ctx context.Context, j *riverqueue.Job[job]) error { return handle(ctx, j.Args.payload) })
	for _, subscription := range subscriptions {
		_, topic := systems.TopicOf(subscription)
		riverqueue.AddWorkerArgs(cfg.Workers, job{kind: topic}, work)
	}
	client, err := riverqueue.NewClient(riverpgxv5.New(pool), &cfg)
	if err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	<-client.Stopped() // running jobs finish first
	return nil
}
