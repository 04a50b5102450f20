package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/storable"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Subscription is a durable, named consumer group: it sees every event that matches its topics, and its workers
// share the load.
type Subscription struct {
	ID      int32
	Name    string
	Topics  []string
	Created bool // by the call that returned it

	floor int64
	tag   uint16 // of the outbox, for UIDs
}

// Subscribe returns the subscription of that name and creates it where it is missing. Topics are exact names, or have *
// for one token and > for the rest. Topics and start matter for a new one only: one that exists may have others. Any number of processes
// may call it at once.
func Subscribe(ctx context.Context, db outbox.Database, name string, topics []string, start outbox.Position) (Subscription, error) {
	if fault := nameFault(name); fault != "" {
		return Subscription{}, fmt.Errorf("%w: name %s", outbox.ErrInvalidSubscription, fault)
	}
	want, err := NormalTopics(topics)
	if err != nil {
		return Subscription{}, err
	}
	var s Subscription
	err = pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		var err error
		if s, err = FindSubscription(ctx, tx, name); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if len(want) == 0 {
			return fmt.Errorf("%w %q: name its topics to create it", outbox.ErrUnknownSubscription, name)
		}
		created, err := create(ctx, tx, name, want, start)
		if err != nil {
			return err
		}
		s, err = FindSubscription(ctx, tx, name)
		s.Created = created
		return err
	})
	if err != nil {
		return Subscription{}, fmt.Errorf("subscribe: %w", err)
	}
	return s, nil
}

func nameFault(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > outbox.MaxTopicBytes:
		return fmt.Sprintf("is %d bytes long, at most %d are allowed", len(name), outbox.MaxTopicBytes)
	case !storable.Text(name):
		return "is not UTF-8 text without zero bytes"
	}
	return ""
}

// FindSubscription returns the subscription of that name, or pgx.ErrNoRows.
func FindSubscription(ctx context.Context, tx pgx.Tx, name string) (s Subscription, err error) {
	err = tx.QueryRow(ctx, `
		select s.id, s.name, s.topics, (select max(c.floor) from outbox.cluster c), outbox.tag()
		from outbox.subscriptions s
		where s.name = $1`, name).Scan(&s.ID, &s.Name, &s.Topics, &s.floor, &s.tag)
	return s, err
}

// create adds a subscription and its lanes, and reports false if another process did so just now.
func create(ctx context.Context, tx pgx.Tx, name string, topics []string, start outbox.Position) (bool, error) {
	if err := KeepLog(ctx, tx); err != nil {
		return false, err
	}
	after, pending, err := startCursor(ctx, tx, start)
	if err != nil {
		return false, err
	}
	tag, err := tx.Exec(ctx, `
		with created as (
		    insert into outbox.subscriptions (name, topics, begins_after) values ($1, $2, $3)
		    on conflict (name) do nothing
		    returning id
		)
		insert into outbox.lanes (subscription_id, lane, after_id, pending)
		select c.id, l.lane, $3, $4
		from created c, generate_series(0, $5::integer - 1) as l (lane)`,
		name, topics, after, pending.multirange(), Lanes)
	return tag.RowsAffected() > 0, err
}

// oldSQL counts events behind the beginning of a subscription, by index events_lane_id: at most 160 of each lane. The planner does not know
// how many are behind it, and left to itself collects and sorts them all: a worker's start would last as long as the log is. The plan is
// pinned by TestPlans.
const oldSQL = `
select bool_or(c.looked > 160), sum(c.wanted)::bigint
from generate_series(0, $4::integer - 1) as l (lane)
cross join lateral (
    select count(*) as looked, count(*) filter (where e.topic ~ $3 and e.place <= 160) as wanted
    from (select e.topic, row_number() over (order by e.id) as place
          from outbox.events e
          where e.lane = l.lane and e.id > (select s.begins_after from outbox.subscriptions s where s.id = $1) and e.id <= $2
          order by e.id
          limit 161) e
) c`

// CountOld returns how many events are there already for a subscription that was just created, and whether there may be more: it counts
// among no more than 160 of each lane.
func CountOld(ctx context.Context, conn naming.Conn, s Subscription) (n int64, more bool, err error) {
	var head int64
	err = conn.QueryRow(ctx, `select `+HeadSQL).Scan(&head)
	if err == nil {
		err = readOver(ctx, conn, oldSQL, []any{s.ID, head, topic.Patterns(s.Topics).Regex(), Lanes}, func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&more, &n}, func() error { return nil })
			return err
		})
	}
	if err != nil {
		return 0, false, fmt.Errorf("count old events of %q: %w", s.Name, err)
	}
	return n, more, nil
}
