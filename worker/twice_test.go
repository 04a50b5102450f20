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
	)
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{Delay: func(int) time.Duration { return 5 * time.Second }}} // until then, there is all that it is to meet
	err = worker.HandleTx(w, s, func(ctx context.Context, tx pgx.Tx, e *worker.Event[payload]) error {
		switch {
		case e.Key == "retried" && e.Payload.N == 1 && e.Attempt == 1:
			return errors.New("once")
		case e.Key == "holds":
			hold()
		case e.Key == "kills" && !killed.Swap(true):
			_, err := tx.Exec(ctx, `select pg_terminate_backend(pg_backend_pid())`)
			return err
		}
		_, err := tx.Exec(ctx, `insert into public.effects (key, n) values ($1, $2)`, e.Key, e.Payload.N)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	// Many quick events make windows large, while those of the heir begin small: it meets the delivery before the event.
	many := func(with string) {
		_, err := db.Pool.Exec(t.Context(), `
			insert into outbox.events (topic, key, payload)
			select 'test.happened', case when i = 1 then nullif($1, '') end, '{"n": 1}' from generate_series(1, 640) i`, with)
		if err != nil {
			t.Fatal(err)
		}
	}
	many("")
	eventually(t, 20*time.Second, "windows are large", func() bool { return settledAll(t, db.Pool) })
	publish(t, db.Pool, "retried", 1, 2)
	eventually(t, 20*time.Second, "it has failed", func() bool { return len(rows(t, db)) == 1 })
	many("holds")
	<-holding
	publish(t, db.Pool, "retried", 2, 6)
	publish(t, db.Pool, "kills", 1, 2)
	eventually(t, 20*time.Second, "it is due again", func() (due bool) {
		if err := db.Pool.QueryRow(t.Context(), `select bool_and(due_at < clock_timestamp()) from outbox.deliveries`).Scan(&due); err != nil {
			t.Fatal(err)
		}
		return due
	})
	close(release)
	eventually(t, 30*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	var effects, distinct int
	err = db.Pool.QueryRow(t.Context(), `select count(*), count(distinct (key, n)) from public.effects where key is not null and key <> ''`).Scan(&effects, &distinct)
	if err != nil || effects != 7 || distinct != 7 {
		t.Errorf("%d effects of %d events (%v), want one of each of seven", effects, distinct, err)
	}
}
