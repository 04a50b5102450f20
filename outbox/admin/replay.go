package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// ReplayOptions say where a [Replay] begins, and how fast it is. The zero value is for a new one.
type ReplayOptions struct {
	After    int64          // Go on after this event: the Last of a replay that was interrupted
	Rate     int            // events a second, at most. Defaults to pausing after each chunk for as long as the chunk took
	Progress func(Replayed) // called after each chunk. Defaults to none
}

// Replayed says how far a [Replay] is.
type Replayed struct {
	Events int64 // how many it took
	Last   int64 // id of the last event that it took or looked at: the After that goes on
	UpTo   int64 // id of the last event that it may take: the MaxID that goes on
}

// Replay lets a subscription handle the events again that match a filter, up to those that were published when it began: a filter
// without MaxID gets one. It takes only events that match the subscription's topics and that it has settled; it has yet to handle the
// others anyway.
//
// The events become deliveries, with all their attempts. One that is retrying or running already stays as it is, so repeating a part
// is harmless; one that is dead or skipped is tried again. The events of a key are handled in order, among themselves and with the
// unfinished ones of the key. Once their worker has noticed, new events of a key wait for them; those of other keys do not.
// To have everything handled again, [Rewind] is faster.
//
// It goes in chunks, and checks ctx between them: a chunk that has begun is given 5 seconds more. When it returns an error, Replayed
// says how far it got; what was taken stays taken. It returns ErrUnknownSubscription for an unknown name, and ErrInvalidFilter for
// an invalid filter or option. Safe for concurrent use as far as db is.
func Replay(ctx context.Context, db outbox.Database, name string, f EventFilter, o ReplayOptions) (Replayed, error) {
	switch {
	case o.Rate < 0:
		return Replayed{}, fmt.Errorf("%w: rate is %d, must be at least 0", ErrInvalidFilter, o.Rate)
	case o.After < 0:
		return Replayed{}, fmt.Errorf("%w: after is %d, must be the id of an event", ErrInvalidFilter, o.After)
	}
	r := Replayed{Last: o.After, UpTo: f.MaxID}
	if f.MaxID == 0 {
		// Without an end, it would go on for as long as events are published.
		newest, err := ListNewestEvents(ctx, db, EventFilter{}, ListOptions{Limit: 1})
		if err != nil {
			return r, fmt.Errorf("replay events to %q: %w", name, err)
		}
		r.UpTo = 1 // nothing, of an empty log
		if len(newest.Items) > 0 {
			r.UpTo = newest.Items[0].ID
		}
		f.MaxID = r.UpTo
	}
	p := pace{rate: o.Rate, begun: time.Now()}
	for {
		if err := ctx.Err(); err != nil {
			return r, fmt.Errorf("replay events to %q: %w", name, err)
		}
		started := time.Now()
		events, next, err := replayChunk(ctx, db, name, f, r.Last, p.limit())
		if err != nil {
			return r, fmt.Errorf("replay events to %q: %w", name, err)
		}
		r.Events += events
		r.Last = max(r.Last, next)
		if o.Progress != nil {
			o.Progress(r)
		}
		if next == 0 {
			return r, nil
		}
		now := time.Now()
		if err := wait(ctx, p.pause(now, r.Events, now.Sub(started))); err != nil {
			return r, fmt.Errorf("replay events to %q: %w", name, err)
		}
	}
}

// CountReplay returns how many events [Replay] would replay, and changes nothing. It looks at no more than 10,000 events and
// estimates from there. Errors are those of Replay.
func CountReplay(ctx context.Context, db outbox.Database, name string, f EventFilter) (n Estimate, err error) {
	err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		s, err := engine.FindSubscription(ctx, tx, name)
		if errors.Is(err, pgx.ErrNoRows) {
			return outbox.ErrUnknownSubscription
		}
		if err != nil {
			return err
		}
		scan, err := newScan(ctx, tx, f)
		if err != nil {
			return err
		}
		n, err = scan.count(ctx, tx, s)
		return err
	})
	if err != nil {
		return Estimate{}, fmt.Errorf("count events to replay to %q: %w", name, err)
	}
	return n, nil
}
