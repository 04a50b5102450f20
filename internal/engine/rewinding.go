package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// FinishChanges completes rewinds and changes of topics that were asked for and whose subscriptions nobody serves any more. The sentinel
// calls it: whoever asked may be gone. One whose subscription somebody has locked is left to the next call, and holds up no other.
func FinishChanges(ctx context.Context, db outbox.Database) error {
	var names []string
	err := pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `select s.name from outbox.subscriptions s where s.rewind_to is not null or s.topics_to is not null order by s.name`)
		var err error
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	for _, name := range names {
		if err == nil {
			_, err = FinishRewind(ctx, db, name)
		}
		if err == nil {
			_, err = FinishTopics(ctx, db, name)
		}
		if lockTimedOut(err) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("finish rewinds and changes of topics: %w", err)
	}
	return nil
}

// lockLanes locks the lanes of a subscription that nobody owns, and reports whether that is all of them. Lanes that are locked are
// changing hands: it does not wait for them, who may wait for it. Claims skip what is locked here, and find the new cursors later.
func lockLanes(ctx context.Context, tx pgx.Tx, subscription int32) (all bool, err error) {
	var free int
	err = tx.QueryRow(ctx, `
		select count(*) filter (where l.owner is null)
		from (select l.owner from outbox.lanes l where l.subscription_id = $1 for update skip locked) l`, subscription).Scan(&free)
	return free == Lanes, err
}

// A delivery whose event will be read again goes: the event would be handled twice, and what becomes of it could not be
// recorded. Index deliveries_pkey has the subscription's, and events_lane_id tells whether the log has the event.
const rewindDeliveriesSQL = `
delete from outbox.deliveries d
where d.subscription_id = $1 and d.event_id > $2 and d.topic ~ $3
  and exists (select from outbox.events e where e.lane = d.lane and e.id = d.event_id)`

// pending and late stay. Of the events that they are about, those up to the new cursor are still missing; the others are read
// as new ones. So the cursor's invariant holds.
const rewindLanesSQL = `
update outbox.lanes l set after_id = $2 where l.subscription_id = $1 and l.after_id > $2`

// FinishRewind moves the cursors of a subscription back, if that was asked for and nobody serves it. It reports whether nothing
// is left to do.
func FinishRewind(ctx context.Context, db outbox.Database, name string) (done bool, err error) {
	err = Scanning(ctx, db, func(tx pgx.Tx) error {
		var (
			id     int32
			topics topic.Patterns
			to     *int64
		)
		err := tx.QueryRow(ctx, `select s.id, s.topics, s.rewind_to from outbox.subscriptions s where s.name = $1 for no key update`, name).
			Scan(&id, &topics, &to)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && to == nil {
			done = true
			return nil
		}
		if err != nil {
			return err
		}
		var running int
		free, err := lockLanes(ctx, tx, id)
		if err == nil {
			// Parked handlers. In a later statement: who owned a lane might have begun one until then.
			err = tx.QueryRow(ctx, `
				select count(*) from outbox.deliveries d where d.owner is not null and d.subscription_id + 0 = $1`, id).Scan(&running)
		}
		if err != nil || !free || running > 0 {
			return err
		}
		for _, step := range []struct {
			sql  string
			args []any
		}{
			{rewindDeliveriesSQL, []any{id, *to, topics.Regex()}},
			{rewindLanesSQL, []any{id, *to}},
			// The events of the others are read anew, and left to their holds.
			{`delete from outbox.held_keys h where h.subscription_id = $1 and h.from_id > $2`, []any{id, *to}},
			{`update outbox.subscriptions s set rewind_to = null where s.id = $1`, []any{id}},
			{AnnounceSQL, nil},
		} {
			if _, err := tx.Exec(ctx, step.sql, step.args...); err != nil {
				return err
			}
		}
		done = true
		return nil
	})
	return done && err == nil, err
}
