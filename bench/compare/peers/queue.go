package peers

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/signalbox-go/signalbox/bench/systems"
)

// queue is what a team writes on an afternoon: a table whose rows are claimed and deleted.
type queue struct{}

const (
	queueClaim    = 1000
	queueWorkers  = 4
	queueHandlers = 25
	queuePoll     = 10 * time.Millisecond
)

func (queue) Info() systems.Info {
	return systems.Info{
		Name: "queue", Settings: "delete … using (select … for update skip locked limit 1000), 4 claimers with 25 handlers each, poll 10 ms", Rate: 60_000,
		Concurrency: queueWorkers * queueHandlers,
		Offers: systems.Offers{
			Fanout: "no: the first one deletes the row", Order: "no", ExactlyOnce: "yes, in the claimer's transaction",
			Takeover: "when the connection ends", LostWakeup: "only polls", HeldSnapshot: "each row is inserted and deleted",
			DeadLetters: "no: a claim that fails is tried again as a whole", Replay: "no",
		},
	}
}

func (queue) Setup(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, `
		create table public.queue (
		    id         bigint      primary key generated always as identity,
		    topic      text        not null,
		    key        text,
		    payload    json        not null,
		    created_at timestamptz not null default now()
		)`)
	return err
}

func (queue) Publish(ctx context.Context, tx pgx.Tx, events []systems.Event) error {
	if len(events) == 1 {
		_, err := tx.Exec(ctx, `insert into public.queue (topic, key, payload) values ($1, $2, $3)`, systems.Topic, events[0].Key, events[0].Payload)
		return err
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"public", "queue"}, []string{"topic", "key", "payload"},
		pgx.CopyFromSlice(len(events), func(i int) ([]any, error) { return []any{systems.Topic, events[i].Key, events[i].Payload}, nil }))
	return err
}

func (queue) Run(ctx context.Context, pool *pgxpool.Pool, _ []string, handle systems.Handler) error {
	var group errgroup.Group
	for range queueWorkers {
		group.Go(func() error {
			for ctx.Err() == nil {
				n, err := claim(context.WithoutCancel(ctx), pool, handle)
				if err != nil {
					return err
				}
				if n > 0 {
					continue
				}
				select {
				case <-ctx.Done():
				case <-time.After(queuePoll):
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// claim handles a batch in the transaction that deletes it.
func claim(ctx context.Context, pool *pgxpool.Pool, handle systems.Handler) (n int, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
			delete from public.queue q
			using (select c.id from public.queue c order by c.id for update skip locked limit $1) c
			where q.id = c.id
			returning q.payload`, queueClaim)
		payloads, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		if err != nil {
			return err
		}
		n = len(payloads)
		var handlers errgroup.Group
		for part := range slices.Chunk(payloads, max(1, n/queueHandlers)) {
			handlers.Go(func() error {
				for _, p := range part {
					if err := handle(ctx, p); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return handlers.Wait()
	})
	return n, err
}
