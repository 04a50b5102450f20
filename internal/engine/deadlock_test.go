package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// TestDecisionsWaitForNoSettle has somebody decide about, or replay, deliveries of which a settle that is under way has recorded some: it goes on
// without them, so the two never wait for each other.
func TestDecisionsWaitForNoSettle(t *testing.T) {
	t.Parallel()
	retrying := admin.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Retrying}}
	all := admin.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Retrying, admin.Blocked}}
	for name, c := range map[string]struct {
		do      func(ctx context.Context, db *pgtest.DB) (int64, error)
		settled int // which one of the line
		want    int64
	}{
		"retry": {func(ctx context.Context, db *pgtest.DB) (int64, error) {
			return admin.RetryDeliveries(ctx, db.Pool, retrying)
		}, 0, 0},
		"skip": {func(ctx context.Context, db *pgtest.DB) (int64, error) {
			return admin.SkipDeliveries(ctx, db.Pool, all, "no")
		}, 2, 2},
		"discard": {func(ctx context.Context, db *pgtest.DB) (int64, error) {
			return admin.DiscardDeliveries(ctx, db.Pool, all)
		}, 2, 2},
		"replay": {func(ctx context.Context, db *pgtest.DB) (int64, error) {
			done, err := admin.Replay(ctx, db.Pool, "s", admin.EventFilter{}, admin.ReplayOptions{})
			return done.Events, err
		}, 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			db := pgtest.New(t)
			_, events := waitingLine(t, db, 0)
			tx, err := db.Conn(t).Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(ctx, `delete from outbox.deliveries where event_id = $1`, events[c.settled].ID); err != nil {
				t.Fatal(err)
			}
			if n, err := c.do(ctx, db); err != nil || n != c.want {
				t.Errorf("%d, %v; want %d", n, err, c.want)
			}
			if err := tx.Rollback(context.Background()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
