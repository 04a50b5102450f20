package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// An Estimate is a number of events.
type Estimate struct {
	Events    int64 `json:"events"`
	Estimated bool  `json:"estimated"` // Events was extrapolated, because more than 10,000 would have to be looked at
}

// CountRewind returns how many events [Rewind] would replay, and changes nothing. Errors are those of Rewind.
func CountRewind(ctx context.Context, db Beginner, name string, to Position) (n Estimate, err error) {
	err = scanning(ctx, db, func(tx pgx.Tx) error {
		n, _, err = planRewind(ctx, tx, name, to)
		return err
	})
	if err != nil {
		return Estimate{}, fmt.Errorf("count what to replay of %q: %w", name, err)
	}
	return n, nil
}

// planRewind returns what a rewind would replay, and the id after which.
func planRewind(ctx context.Context, tx pgx.Tx, name string, to Position) (n Estimate, after int64, err error) {
	s, err := find(ctx, tx, name)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return n, 0, ErrUnknownSubscription
	case err != nil:
		return n, 0, err
	case to.now:
		// Events of running transactions would be lost: nobody knows whether the subscription had to have them.
		return n, 0, fmt.Errorf("%w: a subscription only goes back in the log; to begin at its end, delete it and create it anew", ErrInvalidPosition)
	}
	if after, err = to.after(ctx, tx); err != nil {
		return n, 0, err
	}
	scan, err := newScan(ctx, tx, EventFilter{MinID: after + 1})
	if err != nil {
		return n, 0, err
	}
	n, err = scan.count(ctx, tx, s)
	return n, after, err
}

// Rewind lets a subscription handle everything again that it has settled from a position on, in order by key, and returns
// how many events that is. Its cursors go back; those of lanes that have not come that far stay. What is retried, dead or
// skipped beyond the position begins anew, with all its attempts. Deliveries of events that the log no longer has stay as
// they are. Handlers must be prepared for it: what they did, they do again.
//
// It makes the request, and waits until the workers have let go of the subscription's lanes, which takes about a second, and
// until what they run has ended. Nothing is handled meanwhile. If ctx ends first, nothing is lost: the sentinel, or another
// Rewind, does the rest. Of two requests, the one that goes back further counts. A paused subscription goes back, and stays paused.
//
// A subscription only goes back: it returns ErrInvalidPosition for FromNow, and for an id beyond the log's end. It returns
// ErrUnknownSubscription where there is none of that name. Safe for concurrent use as far as db is.
func Rewind(ctx context.Context, db Beginner, name string, to Position) (n Estimate, err error) {
	err = scanning(ctx, db, func(tx pgx.Tx) error {
		if err := keepLog(ctx, tx); err != nil {
			return err
		}
		var after int64
		if n, after, err = planRewind(ctx, tx, name, to); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `
			update outbox.subscriptions s
			set rewind_to = least(s.rewind_to, $2), begins_after = least(s.begins_after, $2)
			where s.name = $1`, name, after); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, announceSQL)
		return err
	})
	if err != nil {
		return Estimate{}, fmt.Errorf("rewind %q: %w", name, err)
	}
	looks := time.NewTicker(rewindTick)
	defer looks.Stop()
	for {
		done, err := finishRewind(ctx, db, name)
		if done && err == nil {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("rewind %q: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return n, fmt.Errorf("rewind %q: its workers have yet to let go of it, it goes back as soon as they do: %w", name, ctx.Err())
		case <-looks.C:
		}
	}
}

// rewindTick is how often a Rewind looks whether the workers have let go.
const rewindTick = 50 * time.Millisecond

// FinishRewinds completes the requests of Rewind whose subscriptions nobody serves any more. The sentinel calls it: whoever
// asked may be gone.
func FinishRewinds(ctx context.Context, db Beginner) error {
	var names []string
	err := pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `select s.name from outbox.subscriptions s where s.rewind_to is not null order by s.name`)
		var err error
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	for _, name := range names {
		if err == nil {
			_, err = finishRewind(ctx, db, name)
		}
	}
	if err != nil {
		return fmt.Errorf("finish rewinding: %w", err)
	}
	return nil
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

// finishRewind moves the cursors of a subscription back, if that was asked for and nobody serves it. It reports whether nothing
// is left to do.
func finishRewind(ctx context.Context, db Beginner, name string) (done bool, err error) {
	err = scanning(ctx, db, func(tx pgx.Tx) error {
		var (
			id     int32
			topics topics
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
		// Lanes that are locked are changing hands: it does not wait for them, who may wait for it. Claims skip what is locked
		// here, and find the new cursors later.
		var free, running int
		err = tx.QueryRow(ctx, `
			select count(*) filter (where l.owner is null)
			from (select l.owner from outbox.lanes l where l.subscription_id = $1 for update skip locked) l`, id).Scan(&free)
		if err == nil {
			// Parked handlers. In a later statement: who owned a lane might have begun one until then.
			err = tx.QueryRow(ctx, `
				select count(*) from outbox.deliveries d where d.owner is not null and d.subscription_id + 0 = $1`, id).Scan(&running)
		}
		if err != nil || free < Lanes || running > 0 {
			return err
		}
		for _, step := range []struct {
			sql  string
			args []any
		}{
			{rewindDeliveriesSQL, []any{id, *to, topics.regex()}},
			{rewindLanesSQL, []any{id, *to}},
			{`update outbox.subscriptions s set rewind_to = null where s.id = $1`, []any{id}},
			{announceSQL, nil},
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
