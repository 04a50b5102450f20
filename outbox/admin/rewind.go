package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/position"
	"github.com/signalbox-go/signalbox/outbox"
)

// An Estimate is a number of events.
type Estimate struct {
	Events    int64 `json:"events"`
	Estimated bool  `json:"estimated"` // Events was extrapolated, because more than 10,000 would have to be looked at
}

// CountRewind returns how many events [Rewind] would replay, and changes nothing. Errors are those of Rewind.
func CountRewind(ctx context.Context, db outbox.Database, name string, to outbox.Position) (n Estimate, err error) {
	err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		n, _, err = planRewind(ctx, tx, name, to)
		return err
	})
	if err != nil {
		return Estimate{}, fmt.Errorf("count what to replay of %q: %w", name, err)
	}
	return n, nil
}

// planRewind returns what a rewind would replay, and the id after which.
func planRewind(ctx context.Context, tx pgx.Tx, name string, to outbox.Position) (n Estimate, after int64, err error) {
	s, err := engine.FindSubscription(ctx, tx, name)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return n, 0, outbox.ErrUnknownSubscription
	case err != nil:
		return n, 0, err
	case to.Kind == position.None:
		return n, 0, fmt.Errorf("%w: no position is given: use FromBeginning for the whole log", outbox.ErrInvalidPosition)
	case to.Kind == position.Now:
		// Events of running transactions would be lost: it is not known whether the subscription had to have them.
		return n, 0, fmt.Errorf("%w: a subscription only goes back in the log: to begin at its end, delete it and create it anew", outbox.ErrInvalidPosition)
	}
	if after, err = engine.AfterPosition(ctx, tx, to); err != nil {
		return n, 0, err
	}
	scan, err := newScan(ctx, tx, EventFilter{MinID: after + 1})
	if err != nil {
		return n, 0, err
	}
	n, err = scan.count(ctx, tx, s)
	return n, after, err
}

// Rewind has a subscription handle everything again that it has settled from a position on, in order by key, and returns how many events
// that is. Its cursors move back; those of lanes that are not yet past the position stay. What is retrying, dead or skipped beyond the
// position begins anew, with all its attempts. Deliveries of events that the log no longer has stay as they are. Handlers must
// tolerate it: what they did, they do again.
//
// It makes the request, and waits until the workers have released the subscription's lanes, which takes about a second, and until
// what they run has ended. Nothing is handled meanwhile. If ctx ends first, the request stays: the sentinel, or another Rewind,
// completes it. Of two requests, the one further back counts. A paused subscription rewinds, and stays paused.
//
// A subscription rewinds only: Rewind returns ErrInvalidPosition for FromNow, for no position, and for an id beyond the log's end. It returns
// ErrUnknownSubscription for an unknown name. Safe for concurrent use as far as db is.
func Rewind(ctx context.Context, db outbox.Database, name string, to outbox.Position) (n Estimate, err error) {
	err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		if err := engine.KeepLog(ctx, tx); err != nil {
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
		_, err := tx.Exec(ctx, engine.AnnounceSQL)
		return err
	})
	if err != nil {
		return Estimate{}, fmt.Errorf("rewind %q: %w", name, err)
	}
	looks := time.NewTicker(rewindTick)
	defer looks.Stop()
	for {
		done, err := engine.FinishRewind(ctx, db, name)
		if done && err == nil {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("rewind %q: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return n, fmt.Errorf("rewind %q: requested, and done as soon as its workers release its lanes: %w", name, ctx.Err())
		case <-looks.C:
		}
	}
}

// rewindTick is how often a Rewind looks whether the workers have released the lanes.
const rewindTick = 50 * time.Millisecond
