package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// CreateSubscription creates a subscription that begins at a position, and reports whether it did: one that exists with these
// topics stays as it is, wherever it stands. Workers create theirs when they start, at the beginning unless they say otherwise.
// From then on the log is kept for it, also while no worker serves it.
//
// Topics are exact names, or patterns with * for one token and > for the rest. It returns ErrInvalidSubscription for an invalid
// name or topic and for no topics, ErrInvalidPosition for a position beyond the log's end, and a *TopicsError where the
// subscription exists with other topics. Any number of processes may call it at once.
func CreateSubscription(ctx context.Context, db outbox.Database, name string, topics []string, start outbox.Position) (bool, error) {
	if len(topics) == 0 {
		return false, fmt.Errorf("create subscription %q: %w: it has no topics", name, outbox.ErrInvalidSubscription)
	}
	s, err := engine.Subscribe(ctx, db, name, topics, start)
	if err != nil {
		return false, err
	}
	want, _ := engine.NormalTopics(topics) // Subscribe has checked them
	if have := slices.Sorted(slices.Values(s.Topics)); !slices.Equal(have, want) {
		return false, fmt.Errorf("create subscription: %w", &outbox.TopicsError{Name: name, Have: have, Want: want})
	}
	return s.Created, nil
}

// GetSubscription returns the subscription of that name, or ErrUnknownSubscription. Safe for concurrent use as far as db is.
func GetSubscription(ctx context.Context, db outbox.DB, name string) (*Subscription, error) {
	rows, _ := db.Query(ctx, subscriptionsSQL+` where s.name = $1`, name)
	s, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[Subscription])
	if errors.Is(err, pgx.ErrNoRows) {
		err = outbox.ErrUnknownSubscription
	}
	if err != nil {
		return nil, fmt.Errorf("look for subscription %q: %w", name, err)
	}
	return s, nil
}

// knownSQL is whether there is the subscription of a DeliveryFilter: a name that is mistyped is not one without deliveries.
const knownSQL = `exists (select from outbox.subscriptions s where s.name = $1)`

// checkKnown returns ErrUnknownSubscription where there is no subscription of that name: no answer is not an empty one.
func checkKnown(ctx context.Context, db outbox.DB, name string) error {
	var known bool
	err := db.QueryRow(ctx, `select `+knownSQL, name).Scan(&known)
	if err == nil && !known {
		err = outbox.ErrUnknownSubscription
	}
	return err
}
