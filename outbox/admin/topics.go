package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/position"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// TopicsOptions say what [SetTopics] does beside changing topics. The zero value does nothing else.
type TopicsOptions struct {
	// BackfillFrom is the position from which events of added topics are back-filled. Defaults to none.
	BackfillFrom outbox.Position
}

// A TopicsChange is what [SetTopics] did.
type TopicsChange struct {
	Before     []string `json:"before"`     // the topics that the subscription had
	Topics     []string `json:"topics"`     // and those that it has now
	UpTo       int64    `json:"up_to"`      // events up to this id were read with the topics before; 0 if nothing had to change
	Backfilled int64    `json:"backfilled"` // events of added topics that became deliveries
}

// SetTopics changes the topics of a subscription. Unread and held events are matched with the new topics. What the subscription has read
// stays as it is: it does not handle events of an added topic that its cursors have passed, unless they are back-filled, and it still
// handles deliveries of a removed topic. It handles every event of an added topic that commits after the change. In doubt, back-fill from
// before the deploy: handlers must tolerate repeated events.
//
// Back-filled events become deliveries, in order by key, before new events of their keys. This takes one transaction, in which the
// subscription handles nothing: for millions of events, [Replay] what is missing afterwards, or add a subscription.
//
// SetTopics stores a request, and waits until the workers have released the subscription's lanes, which takes about a second. If ctx ends
// first, the request stays, and the sentinel or another call completes it. The last request wins. Workers that do not know all topics
// (see worker.Subscription.Topics) leave the lanes to those that do: deploy these first.
//
// It returns ErrUnknownSubscription for an unknown name, ErrInvalidSubscription for an invalid topic or none, ErrInvalidPosition for a
// back-fill from now or beyond the end of the log, and a *FeatureError while workers of older versions are running. Safe for concurrent use as
// far as db is.
func SetTopics(ctx context.Context, db outbox.Database, name string, topics []string, o TopicsOptions) (TopicsChange, error) {
	want, err := wantedTopics(topics)
	change := TopicsChange{Topics: want}
	if err != nil {
		return change, fmt.Errorf("set the topics of %q: %w", name, err)
	}
	err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		after, err := backfillAfter(ctx, tx, o)
		if err == nil {
			err = useFeature(ctx, tx, engine.FeatureTopics)
		}
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `select s.topics from outbox.subscriptions s where s.name = $1 for no key update`, name).Scan(&change.Before)
		if errors.Is(err, pgx.ErrNoRows) {
			return outbox.ErrUnknownSubscription
		}
		if err != nil {
			return err
		}
		// A request for what it has takes another one back.
		_, err = tx.Exec(ctx, `
			update outbox.subscriptions s
			set topics_to = nullif($2::text[], s.topics), backfill_after = case when s.topics <> $2 then $3::bigint end
			where s.name = $1`, name, want, after)
		if err == nil {
			_, err = tx.Exec(ctx, engine.AnnounceSQL)
		}
		return err
	})
	if err != nil {
		return change, fmt.Errorf("set the topics of %q: %w", name, err)
	}
	looks := time.NewTicker(rewindTick)
	defer looks.Stop()
	for {
		done, err := engine.FinishTopics(ctx, db, name)
		if done && err == nil && !slices.Equal(change.Before, want) {
			// It may have been the sentinel who did it.
			err = db.QueryRow(ctx, `
				select h.up_to, h.backfilled
				from outbox.topic_changes h join outbox.subscriptions s on s.id = h.subscription_id
				where s.name = $1
				order by h.at desc
				limit 1`, name).Scan(&change.UpTo, &change.Backfilled)
		}
		if err != nil {
			return change, fmt.Errorf("set the topics of %q: %w", name, err)
		}
		if done {
			return change, nil
		}
		select {
		case <-ctx.Done():
			return change, fmt.Errorf("set the topics of %q: requested, and done as soon as its workers release its lanes: %w", name, ctx.Err())
		case <-looks.C:
		}
	}
}

// CountBackfill returns how many events SetTopics would back-fill, and changes nothing. It looks at no more than 10,000 events and estimates
// from there. Errors are those of SetTopics.
func CountBackfill(ctx context.Context, db outbox.Database, name string, topics []string, from outbox.Position) (n Estimate, err error) {
	want, err := wantedTopics(topics)
	if err == nil {
		err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
			after, err := backfillAfter(ctx, tx, TopicsOptions{BackfillFrom: from})
			if err != nil {
				return err
			}
			s, err := engine.FindSubscription(ctx, tx, name)
			if errors.Is(err, pgx.ErrNoRows) {
				return outbox.ErrUnknownSubscription
			}
			if err != nil {
				return err
			}
			if after == nil {
				return nil
			}
			scan, err := newScan(ctx, tx, EventFilter{MinID: *after + 1})
			if err != nil {
				return err
			}
			scan.except = topic.Patterns(s.Topics).Regex()
			s.Topics = want
			n, err = scan.count(ctx, tx, s)
			return err
		})
	}
	if err != nil {
		return Estimate{}, fmt.Errorf("count what to back-fill of %q: %w", name, err)
	}
	return n, nil
}

func wantedTopics(topics []string) ([]string, error) {
	want, err := engine.NormalTopics(topics)
	if err == nil && len(want) == 0 {
		err = fmt.Errorf("%w: it has no topics", outbox.ErrInvalidSubscription)
	}
	return want, err
}

// backfillAfter returns the id after which to back-fill, or nil.
func backfillAfter(ctx context.Context, tx pgx.Tx, o TopicsOptions) (*int64, error) {
	switch o.BackfillFrom.Kind {
	case position.None:
		return nil, nil
	case position.Now:
		return nil, fmt.Errorf("%w: what is published from now on is handled without a back-fill", outbox.ErrInvalidPosition)
	}
	if err := engine.KeepLog(ctx, tx); err != nil {
		return nil, err
	}
	after, err := engine.AfterPosition(ctx, tx, o.BackfillFrom)
	return &after, err
}
