package peers

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	guequeue "github.com/vgarvardt/gue/v5"
	"github.com/vgarvardt/gue/v5/adapter/pgxv5"

	"github.com/signalbox-go/signalbox/bench/systems"
)

// gue is vgarvardt/gue.
type gue struct {
	info    systems.Info
	workers int
	options []guequeue.WorkerPoolOption

	enqueuer func() (*guequeue.Client, error) // publishes, in the caller's transaction
}

func newGue(best bool) systems.System {
	g := &gue{
		info: systems.Info{
			Name: "gue", Settings: "2 workers, poll 5 s, by priority: the defaults, and the workers of its example", Rate: 500, Concurrency: 2,
			Module: "github.com/vgarvardt/gue/v5",
			Offers: systems.Offers{
				Fanout: "no: a job has one worker", Order: "no", ExactlyOnce: "yes, in the job's transaction",
				Takeover: "when the connection ends", LostWakeup: "only polls", HeldSnapshot: "each job is inserted, locked and deleted",
				DeadLetters: "no: retried without end, or dropped", Replay: "no",
			},
		},
		workers:  2,
		enqueuer: sync.OnceValues(func() (*guequeue.Client, error) { return guequeue.NewClient(nil) }),
	}
	if best {
		g.info.Name, g.info.Rate, g.info.Concurrency = "gue-best", 2_000, 16
		g.info.Settings = "16 workers, poll 20 ms, by time"
		g.workers = 16
		g.options = []guequeue.WorkerPoolOption{
			guequeue.WithPoolPollInterval(20 * time.Millisecond), guequeue.WithPoolPollStrategy(guequeue.RunAtPollStrategy),
		}
	}
	return g
}

func (g *gue) Info() systems.Info { return g.info }

// The schema is the one in gue's migrations folder, which it asks its users to apply themselves.
const gueSchema = `
create table public.gue_jobs (
    job_id      text        not null primary key,
    priority    smallint    not null,
    run_at      timestamptz not null,
    job_type    text        not null,
    args        bytea       not null,
    error_count integer     not null default 0,
    last_error  text,
    queue       text        not null,
    created_at  timestamptz not null,
    updated_at  timestamptz not null
);
create index idx_gue_jobs_selector on public.gue_jobs (queue, run_at, priority)`

func (g *gue) Setup(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, gueSchema)
	return err
}

func (g *gue) Publish(ctx context.Context, tx pgx.Tx, events []systems.Event) error {
	client, err := g.enqueuer()
	if err != nil {
		return err
	}
	jobs := make([]*guequeue.Job, len(events))
	for i, e := range events {
		jobs[i] = &guequeue.Job{Type: systems.Topic, Args: e.Payload}
	}
	return client.EnqueueBatchTx(ctx, jobs, pgxv5.NewTx(tx))
}

func (g *gue) Run(ctx context.Context, pool *pgxpool.Pool, _ []string, handle systems.Handler) error {
	client, err := guequeue.NewClient(pgxv5.NewConnPool(pool))
	if err != nil {
		return err
	}
	work := guequeue.WorkMap{systems.Topic: func(ctx context.Context, j *guequeue.Job) error { return handle(ctx, j.Args) }}
	options := append([]guequeue.WorkerPoolOption{guequeue.WithPoolGracefulShutdown(nil)}, g.options...)
	workers, err := guequeue.NewWorkerPool(client, work, g.workers, options...)
	if err != nil {
		return err
	}
	return workers.Run(ctx)
}
