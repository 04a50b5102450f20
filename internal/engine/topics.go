package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// OtherTopics says that a subscription has other topics than a member of it reads with.
type OtherTopics struct {
	Have  []string // the subscription's
	Reads []string // the member's; nil while it leaves lanes to others
	Owner bool     // whether it owns lanes all the same: somebody has changed the topics behind the cursors
}

// readsSQL tells the other workers only if something has changed: as a rule, a worker has joined with these topics.
const readsSQL = `
with changed as (
    update outbox.members m
    set topics = $3
    where m.worker_id = $1 and m.subscription_id = $2 and m.topics is distinct from $3
    returning 1
)
select outbox.notify('` + LanesPayload + `') from changed`

// Rejoin has the member read with the topics that its subscription has now, and returns them, if the worker knows all of them. Otherwise, it
// claims nothing, and others do not count on it. It must not own a lane.
func (m *Member) Rejoin(ctx context.Context, knows func(topics []string) bool) (topics []string, known bool, err error) {
	err = m.conns.Wait(ctx, func(conn naming.Conn) error {
		return conn.QueryRow(ctx, `select s.topics from outbox.subscriptions s where s.id = $1`, m.subscription).Scan(&topics)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, false, fmt.Errorf("%w: its subscription is gone", ErrEvicted)
	}
	var reads []string
	if err == nil {
		if known = knows(topics); known {
			reads = topics
		}
		err = m.inTx(ctx, m.conns.Wait, func(batch *pgx.Batch) {
			batch.Queue(readsSQL, m.worker, m.subscription, reads)
		})
	}
	if err != nil {
		return nil, false, fmt.Errorf("join with the topics of now: %w", err)
	}
	m.topics, m.seen = reads, nil
	m.like, m.filter = m.topics.Like(), m.topics.Like()
	return topics, known, nil
}

// NormalTopics checks topics for a subscription, and returns them sorted and without repetitions.
func NormalTopics(topics []string) ([]string, error) {
	for _, pattern := range topics {
		if fault := topic.PatternFault(pattern); fault != "" {
			return nil, fmt.Errorf("%w: topic %s", outbox.ErrInvalidSubscription, fault)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(topics))), nil
}

// backfillSQL gives a row to what cursors have passed after $2 of the topics $3 and not of $4, which the subscription had before. What a cursor
// still waits for is read later, with the new topics, and so is what is held. It is a walk of each lane by index events_lane_id. Rows are
// there before anybody reads on, so new events of their keys wait for them.
const backfillSQL = `
insert into outbox.deliveries as d (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at, decided_at)
select $1, e.id, e.lane, e.topic, e.key, e.payload, e.headers, e.published_at, 'retrying', clock_timestamp(), clock_timestamp()
from outbox.lanes l
cross join lateral (
    select e.* from outbox.events e where e.lane = l.lane and e.id > $2 and e.id <= l.after_id order by e.id
) e
where l.subscription_id = $1 and e.topic ~ $3 and e.topic !~ $4
  and not (e.id > (select max(c.floor) from outbox.cluster c)
           and (l.pending @> e.xid::text::bigint or l.late @> e.xid::text::bigint and e.id > l.late_after_id))
  and not exists (select from outbox.held_keys h
                  where h.subscription_id = $1 and h.lane = e.lane and h.key = e.key and h.from_id <= e.id)
on conflict (subscription_id, event_id) do update
set state = 'retrying', stops_key = false, suspect = false, attempt = 0, due_at = excluded.due_at, decided_at = excluded.decided_at
where d.state in ('dead', 'skipped')`

// FinishTopics changes the topics of a subscription, if that was asked for and nobody owns its lanes: the cursors are in the database
// then, and everybody who claims a lane joins with the new topics before. It reports whether nothing is left to do. See docs/design.md.
func FinishTopics(ctx context.Context, db outbox.Database, name string) (done bool, err error) {
	err = Scanning(ctx, db, func(tx pgx.Tx) error {
		done = false
		if err := KeepLog(ctx, tx); err != nil {
			return err
		}
		var (
			id         int32
			have, want topic.Patterns
			backfill   *int64
		)
		err := tx.QueryRow(ctx, `
			select s.id, s.topics, s.topics_to, s.backfill_after from outbox.subscriptions s where s.name = $1 for no key update`, name).
			Scan(&id, (*[]string)(&have), (*[]string)(&want), &backfill)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && want == nil {
			done = true
			return nil
		}
		if err != nil {
			return err
		}
		if free, err := lockLanes(ctx, tx, id); err != nil || !free {
			return err
		}
		backfilled := int64(0)
		if backfill != nil {
			tag, err := tx.Exec(ctx, backfillSQL, id, *backfill, want.Regex(), have.Regex())
			if err != nil {
				return err
			}
			backfilled = tag.RowsAffected()
		}
		for _, step := range []struct {
			sql  string
			args []any
		}{
			{`insert into outbox.topic_changes (subscription_id, up_to, topics, backfilled_after, backfilled)
			  select $1, max(l.after_id), $2, $3, $4 from outbox.lanes l where l.subscription_id = $1`, []any{id, []string(have), backfill, backfilled}},
			{`update outbox.subscriptions s set topics = s.topics_to, topics_to = null, backfill_after = null where s.id = $1`, []any{id}},
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
