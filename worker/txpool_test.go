package worker_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestSharedConnections has more transactional subscriptions than the pool has connections: each gets what AfterConnect has set up, and
// nothing of what another has set, and every effect counts once.
func TestSharedConnections(t *testing.T) {
	t.Parallel()
	const subscriptions, events, rounds = 7, 5, 4
	for _, prepared := range []bool{false, true} {
		t.Run(fmt.Sprint("prepared ", prepared), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			if _, err := db.Pool.Exec(t.Context(), `create table public.effects (s integer not null, n integer not null, seen text, tenant text)`); err != nil {
				t.Fatal(err)
			}
			config := db.Pool.Config()
			if prepared {
				config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
					_, err := conn.Exec(ctx, `select set_config('shop.tenant', 'north', false)`)
					return err
				}
			}
			w, err := worker.New(openPool(t, config), worker.Config{Logger: testLogger(t)})
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			pids := map[uint32]bool{}
			for i := range subscriptions {
				s := worker.Subscription{Name: fmt.Sprint("s", i), Topics: everything}
				err := worker.HandleTx(w, s, func(ctx context.Context, tx pgx.Tx, e *worker.Event[payload]) error {
					mu.Lock()
					pids[tx.Conn().PgConn().PID()] = true
					mu.Unlock()
					_, err := tx.Exec(ctx, `insert into public.effects select $1, $2, nullif(current_setting('shop.seen', true), ''), current_setting('shop.tenant', true)`, i, e.Payload.N)
					if err != nil || e.Payload.N%events != events-1 { // the last of a window
						return err
					}
					_, err = tx.Exec(ctx, `select set_config('shop.seen', $1, false)`, s.Name)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			runUntilStopped(t, w)
			for round := range rounds {
				publish(t, db.Pool, "a", round*events, (round+1)*events)
				eventually(t, 30*time.Second, "all are handled", func() bool {
					var n int
					return db.Pool.QueryRow(t.Context(), `select count(*) from public.effects`).Scan(&n) == nil && n >= subscriptions*events*(round+1)
				})
			}
			var tenants, seen []string
			var n, distinct int
			err = db.Pool.QueryRow(t.Context(), `select count(*), count(distinct (s, n)), array_agg(distinct coalesce(tenant, '')),
				coalesce(array_agg(distinct seen) filter (where seen is not null), '{}') from public.effects`).Scan(&n, &distinct, &tenants, &seen)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{""}
			if prepared {
				want = []string{"north"}
			}
			if n != subscriptions*events*rounds || n != distinct || len(seen) > 0 || !slices.Equal(tenants, want) {
				t.Errorf("%d effects, %d of them distinct; settings of others that were seen: %v; tenants %v, want %v", n, distinct, seen, tenants, want)
			}
			mu.Lock()
			defer mu.Unlock()
			if !prepared && len(pids) > subscriptions*rounds/2 { // where nothing has to be closed: four, and some for those that waited too long, as on a busy machine
				t.Errorf("%d connections were opened", len(pids))
			}
		})
	}
}
