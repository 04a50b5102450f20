package worker_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestBehindARetryOnce has a session end between the transaction of a retried event and that of the window beside it, which has
// an event that waited behind the retried one. What waits must be recorded with its window, or it is handled twice: as a delivery,
// and as an event that the cursor has not passed.
func TestBehindARetryOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Pool.Exec(t.Context(), `create table public.effects (key text, n integer)`); err != nil {
		t.Fatal(err)
	}
	var (
		holding, release = make(chan struct{}), make(chan struct{})
		hold             = sync.OnceFunc(func() { close(holding); <-release })
		killed           atomic.Bool
		plain            atomic.Int64 // events without a key that were handled
	)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	handle := func(ctx context.Context, tx pgx.Tx, e *worker.Event[payload]) error {
		switch {
		case e.Key == "retried" && e.Payload.N == 1 && e.Attempt == 1:
			return errors.New("once")
		case e.Key == "holds":
			hold()
		case e.Key == "":
			plain.Add(1)
		case e.Key == "kills" && !killed.Swap(true):
			end() // its heir is another one
			_, err := tx.Exec(ctx, `
				select pg_terminate_backend(a.pid) from (
				    select a.pid from pg_stat_activity a
				    where a.datname = current_database() and a.application_name like 'signalbox%'
				    order by a.pid = pg_backend_pid() offset 0) a`)
			return err
		}
		_, err := tx.Exec(ctx, `insert into public.effects (key, n) values ($1, $2)`, e.Key, e.Payload.N)
		return err
	}
	serves := func(windowSize int) *worker.Worker {
		w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), WindowSize: windowSize})
		if err != nil {
			t.Fatal(err)
		}
		s := worker.Subscription{
			Name: "s", Topics: everything, ParkAfter: time.Minute, // the window that holds is not cut
			Retry: worker.Retry{Delay: func(int) time.Duration { return 5 * time.Second }}, // until then, there is all that it is to meet
		}
		if err := worker.HandleTx(w, s, handle); err != nil {
			t.Fatal(err)
		}
		return w
	}
	ended := make(chan error, 1)
	go func() { ended <- serves(0).Run(ctx) }()
	// Many quick events make windows large, while those of the heir are small: it meets the delivery before the event.
	many := func(with string) {
		_, err := db.Pool.Exec(t.Context(), `
			insert into outbox.events (topic, key, payload)
			select 'test.happened', case when i = 1 then nullif($1, '') end, '{"n": 1}' from generate_series(1, 640) i`, with)
		if err != nil {
			t.Fatal(err)
		}
	}
	many("")
	eventually(t, 20*time.Second, "windows are large", func() bool { return plain.Load() >= 640 })
	publish(t, db.Pool, "retried", 1, 2)
	eventually(t, 20*time.Second, "it has failed", func() bool { return len(rows(t, db)) == 1 })
	many("")
	eventually(t, 20*time.Second, "windows are large again", func() bool { return plain.Load() >= 2*640 })
	many("holds")
	<-holding
	many("") // more than a window of the heir
	publish(t, db.Pool, "retried", 2, 6)
	publish(t, db.Pool, "kills", 1, 2)
	eventually(t, 20*time.Second, "it is due again", func() (due bool) {
		if err := db.Pool.QueryRow(t.Context(), `select coalesce(bool_and(due_at < clock_timestamp()), false) from outbox.deliveries`).Scan(&due); err != nil {
			t.Fatal(err)
		}
		return due
	})
	close(release)
	t.Logf("the first one ended: %v", <-ended)
	runUntilStopped(t, serves(64))
	eventually(t, 30*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	var effects, distinct int
	err := db.Pool.QueryRow(t.Context(), `select count(*), count(distinct (key, n)) from public.effects where key is not null and key <> ''`).Scan(&effects, &distinct)
	if err != nil || effects != 7 || distinct != 7 {
		t.Errorf("%d effects of %d events (%v), want one of each of seven", effects, distinct, err)
	}
}
