package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Subscription is a durable, named consumer group: it sees every event that matches its topics, and its workers
// share the load.
type Subscription struct {
	ID        int32
	Name      string
	Topics    []string
	CreatedAt time.Time

	floor int64
}

// A Beginner is a connection or a pool of pgx.
type Beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// ErrInvalidSubscription says that a subscription's name or topics are not possible.
var ErrInvalidSubscription = errors.New("invalid subscription")

// ErrUnknownSubscription says that a subscription does not exist and, where it would be created, that no topics were given.
var ErrUnknownSubscription = errors.New("unknown subscription")

// A TopicsError says that a subscription exists with other topics than asked for.
type TopicsError struct {
	Name       string
	Have, Want []string
}

func (e *TopicsError) Error() string {
	want := make([]string, len(e.Want))
	for i, topic := range e.Want {
		want[i] = quoteLiteral(topic)
	}
	return fmt.Sprintf("subscription %q has the topics %s, not %s: leave them out, use another name, or change them with "+
		"\"update outbox.subscriptions set topics = array[%s] where name = %s\" and restart its workers",
		e.Name, strings.Join(e.Have, " "), strings.Join(e.Want, " "), strings.Join(want, ", "), quoteLiteral(e.Name))
}

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// Subscribe returns the subscription of that name and creates it where it is missing. Topics are exact names, or have *
// for one token and > for the rest. For an existing one they may be left out; others than it has are a *TopicsError.
// Start matters for a new one only. Any number of processes may call it at once.
func Subscribe(ctx context.Context, db Beginner, name string, topics []string, start Position) (Subscription, error) {
	if fault := nameFault(name); fault != "" {
		return Subscription{}, fmt.Errorf("%w: name %s", ErrInvalidSubscription, fault)
	}
	for _, pattern := range topics {
		if fault := patternFault(pattern); fault != "" {
			return Subscription{}, fmt.Errorf("%w: topic %s", ErrInvalidSubscription, fault)
		}
	}
	want := slices.Compact(slices.Sorted(slices.Values(topics)))
	var s Subscription
	err := pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		var err error
		if s, err = find(ctx, tx, name); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if len(want) == 0 {
			return fmt.Errorf("%w %q: name its topics to create it", ErrUnknownSubscription, name)
		}
		if err = create(ctx, tx, name, want, start); err != nil {
			return err
		}
		s, err = find(ctx, tx, name)
		return err
	})
	if err != nil {
		return Subscription{}, fmt.Errorf("subscribe: %w", err)
	}
	if have := slices.Sorted(slices.Values(s.Topics)); len(want) > 0 && !slices.Equal(have, want) {
		return Subscription{}, &TopicsError{Name: name, Have: have, Want: want}
	}
	return s, nil
}

func nameFault(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > MaxTopicBytes:
		return fmt.Sprintf("is %d bytes long, at most %d are allowed", len(name), MaxTopicBytes)
	case !storableText(name):
		return "is not UTF-8 text without zero bytes"
	}
	return ""
}

func find(ctx context.Context, tx pgx.Tx, name string) (s Subscription, err error) {
	err = tx.QueryRow(ctx, `
		select s.id, s.name, s.topics, s.created_at, c.floor
		from outbox.subscriptions s, outbox.cluster c
		where s.name = $1`, name).Scan(&s.ID, &s.Name, &s.Topics, &s.CreatedAt, &s.floor)
	return s, err
}

// create adds a subscription and its lanes, unless somebody else did so just now.
func create(ctx context.Context, tx pgx.Tx, name string, topics []string, start Position) error {
	if err := keepLog(ctx, tx); err != nil {
		return err
	}
	after, pending, err := start.cursor(ctx, tx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		with created as (
		    insert into outbox.subscriptions (name, topics, begins_after) values ($1, $2, $3)
		    on conflict (name) do nothing
		    returning id
		)
		insert into outbox.lanes (subscription_id, lane, after_id, pending)
		select c.id, l.lane, $3, $4
		from created c, generate_series(0, $5::integer - 1) as l (lane)`,
		name, topics, after, pending.multirange(), Lanes)
	return err
}

// cursor returns where all lanes of a new subscription stand. The transaction must not have written before.
func (p Position) cursor(ctx context.Context, tx pgx.Tx) (after int64, pending xids, err error) {
	if !p.now {
		after, err = p.after(ctx, tx)
		return after, nil, err
	}
	// As for a read that reached every lane's end.
	var (
		seen string
		next int64
	)
	err = tx.QueryRow(ctx, `
		select pg_current_snapshot()::text, h.id, case when h.id >= 0 then pg_current_xact_id()::text::bigint end
		from (select `+headSQL+` as id) h`).
		Scan(&seen, &after, &next)
	if err != nil {
		return 0, nil, err
	}
	s, err := parseSnapshot(seen)
	return after, s.unseen(next), err
}
