package worker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestCatchesUpBehindDeliveries leaves what an outage leaves: most keys have a delivery that is due, and the log has dozens of events more of each. What
// comes of a key whose line is not empty waits in it: read faster than lines are worked off, nearly the whole log would become deliveries.
func TestCatchesUpBehindDeliveries(t *testing.T) {
	t.Parallel()
	const keys, failed, each = 2000, 1500, 40
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := pgtest.New(t)
			var handled atomic.Int64
			s := worker.Subscription{Name: "s", Topics: everything}
			handle := func(context.Context, execer, *worker.Event[payload]) error {
				handled.Add(1)
				return nil
			}
			fill := func(n int) {
				t.Helper()
				if _, err := db.Pool.Exec(ctx, `
					insert into outbox.events (topic, key, payload) select 'test.happened', 'key-' || n % $1, '{"n": 1}' from generate_series(0, $2::integer - 1) n`, keys, n); err != nil {
					t.Fatal(err)
				}
			}
			fill(failed)
			stop := startForm(t, db, f, s, handle)
			eventually(t, time.Minute, "the first are handled", func() bool { return handled.Load() == failed && settledAll(t, db.Pool) })
			stop()
			if _, err := db.Pool.Exec(ctx, `
				insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at)
				select s.id, e.id, e.lane, e.topic, e.key, e.payload, e.headers, e.published_at, 'retrying', now() from outbox.events e, outbox.subscriptions s`); err != nil {
				t.Fatal(err)
			}
			fill(keys * each)
			handled.Store(0)

			startForm(t, db, f, s, handle)
			most := 0
			eventually(t, time.Minute, "all are handled", func() bool {
				most = max(most, number(t, db, `select count(*) from outbox.deliveries`))
				return handled.Load() >= failed+keys*each
			})
			if most > 5*failed {
				t.Errorf("there were %d deliveries", most)
			}
		})
	}
}
