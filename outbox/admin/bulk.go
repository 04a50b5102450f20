package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Decision decides about the deliveries that match a filter, and returns how many there were: [RetryDeliveries],
// [DiscardDeliveries], or a function that calls [SkipDeliveries] with a reason.
type Decision func(ctx context.Context, db outbox.DB, f DeliveryFilter) (int64, error)

// DecideInChunks applies a decision to all deliveries that match, however many they are, and returns how many there were. It goes
// in chunks of 5,000 by rising id, each in a transaction of its own, and pauses after each for as long as the chunk took, so
// that workers hardly notice. Deliveries created after it began are not touched.
//
// It checks ctx between chunks: a chunk that has begun is given 5 seconds more. What was decided when it returns an error stays
// decided, and the number says how many that is; the same call does the rest. It returns ErrUnknownSubscription for an unknown
// subscription, and ErrInvalidFilter for an invalid filter. Safe for concurrent use as far as db is. To have all or nothing, call
// the decision itself.
func DecideInChunks(ctx context.Context, db outbox.Database, f DeliveryFilter, decide Decision) (n int64, err error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	if len(f.IDs) > 0 { // few enough to be named: one chunk
		return decide(ctx, db, f)
	}
	var now time.Time
	if err := db.QueryRow(ctx, `select clock_timestamp()`).Scan(&now); err != nil {
		return 0, fmt.Errorf("decide about deliveries of %q: %w", f.Subscription, err)
	}
	if f.Until.IsZero() || f.Until.After(now) {
		f.Until = now
	}
	for after := int64(0); ; {
		started := time.Now()
		decided, next, err := decideChunk(ctx, db, f, decide, after)
		n += decided
		if err != nil || next == 0 {
			return n, err
		}
		after = next
		if err := wait(ctx, pace{}.pause(time.Now(), n, time.Since(started))); err != nil {
			return n, fmt.Errorf("decide about deliveries of %q: %w", f.Subscription, err)
		}
	}
}

// decideChunk decides about the deliveries after one, and returns the after of the next chunk, 0 where there is none.
func decideChunk(ctx context.Context, db outbox.Database, f DeliveryFilter, decide Decision, after int64) (n, next int64, err error) {
	ctx, cancel := whole(ctx)
	defer cancel()
	var ids []int64
	err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		if ids, next, err = f.search(ctx, tx, after, bulkChunk); err != nil || len(ids) > 0 {
			return err
		}
		return checkKnown(ctx, tx, f.Subscription)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("decide about deliveries of %q: %w", f.Subscription, err)
	}
	if len(ids) == 0 {
		return 0, next, nil
	}
	f.IDs = ids
	n, err = decide(ctx, db, f)
	return n, next, err
}
