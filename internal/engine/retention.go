package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/outbox"
)

// UnsettledSQL is true when the subscription s has yet to settle the event e of the lane whose cursor is c: it has not
// passed it, or goes back in front of it, or waits for its transaction, or its key is held. Only what is recorded counts, not what
// workers have in memory.
const UnsettledSQL = `
(e.id > least(c.after_id, s.rewind_to) or c.pending @> e.xid::text::bigint or c.late @> e.xid::text::bigint
 or exists (select from outbox.held_keys h
            where h.subscription_id = s.id and h.lane = e.lane and h.key = e.key and h.from_id <= e.id))`

// expiredSQL is true when the event e is settled by every subscription, and older than $1.
const expiredSQL = `
e.published_at < clock_timestamp() - $1::interval
and not exists (select from cursors c join outbox.subscriptions s on s.id = c.subscription_id
                where c.lane = e.lane and ` + UnsettledSQL + `)`

// expirableSQL is true when e may also be deleted: no delivery is without a copy of it. With the limit, that is one probe of index
// deliveries_without_copy; without, PostgreSQL may collect all of these first, of all lanes, for each chunk.
const expirableSQL = expiredSQL + `
and (select d.event_id from outbox.deliveries d where d.lane = e.lane and d.event_id = e.id and d.payload is null limit 1) is null`

// ExpiredSQL finds the lanes whose first event has expired, by one probe of index events_lane_id for each.
const ExpiredSQL = `
with cursors as materialized (` + CursorsSQL + `
)
select e.lane
from outbox.trimmed t
cross join lateral (
    select e.lane, e.id, e.xid, e.key, e.published_at
    from outbox.events e
    where e.lane = t.lane and e.id > case when $2::boolean then 0 else t.up_to end
    order by e.id
    limit 1
) e
where ` + expiredSQL

// ExpiredLanes returns the lanes that have events to delete: see [Trim]. thorough is Trim's.
func ExpiredLanes(ctx context.Context, db outbox.Database, keep time.Duration, thorough bool) (lanes []int16, err error) {
	err = Scanning(ctx, db, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, ExpiredSQL, keep, thorough)
		lanes, err = pgx.CollectRows(rows, pgx.RowTo[int16])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for expired events: %w", err)
	}
	return lanes, nil
}

// TrimSQL deletes from the beginning of a lane up to the first event that has to stay. Index events_lane_id has them in
// order, and is walked from where the last chunk ended.
const TrimSQL = `
with cursors as materialized (` + CursorsSQL + `
    where l.lane = $2
), scanned as materialized (
    select e.id, ` + expirableSQL + ` as expired
    from outbox.events e
    where e.lane = $2
      and e.id > case when $4::boolean then 0 else (select t.up_to from outbox.trimmed t where t.lane = $2) end
    order by e.id
    limit $3
), expired as materialized (
    select count(*) as n, max(s.id) as up_to
    from scanned s
    where s.id < coalesce((select min(k.id) from scanned k where not k.expired), 9223372036854775807)
), deleted as (
    delete from outbox.events e
    where e.lane = $2 and e.id <= (select x.up_to from expired x)
      and e.id > case when $4::boolean then 0 else (select t.up_to from outbox.trimmed t where t.lane = $2) end
), moved as (
    update outbox.trimmed t
    set up_to = x.up_to
    from expired x
    where t.lane = $2 and t.up_to < x.up_to
)
select x.n from expired x`

// Trim deletes up to limit events from the beginning of a lane, and returns how many. It deletes those that were published
// longer ago than keep and that every subscription has settled; where there is no subscription, their age decides. What a
// subscription has yet to read, because it is slow, paused or goes back, stays however old it is. Deliveries are copies, or become
// copies now, and stay, too. It stops at the first event that has to stay, so that one keeps those behind it.
//
// It goes on where the last chunk ended. An event below that, committed since then by a transaction that took longer than
// keep, is found only when thorough is true: then it looks from the very beginning, and also walks the index entries that
// vacuum has yet to remove.
//
// A subscription that is created at the same time reads what is left, and whoever creates one waits for the chunk to be
// deleted. So limit the chunk to a few thousand. It returns ErrBusy when somebody takes longer than a second to create one.
func Trim(ctx context.Context, db outbox.Database, lane int16, keep time.Duration, limit int, thorough bool) (deleted int, err error) {
	err = Scanning(ctx, db, func(tx pgx.Tx) error {
		// Nobody looks for a place to begin, and then asks for it, between what is looked at here and what is deleted. The
		// snapshot that counts is taken after the lock.
		if _, err := tx.Exec(ctx, `set local lock_timeout = '1s'`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(`+LockClass+`, $1::integer)`, lockTrim); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, makeCopiesSQL, keep, lane, limit); err != nil {
			return err
		}
		return tx.QueryRow(ctx, TrimSQL, keep, lane, limit, thorough).Scan(&deleted)
	})
	if err != nil {
		return 0, fmt.Errorf("delete expired events of lane %d: %w", lane, busy(err))
	}
	return deleted, nil
}

// KeepLog keeps events from being deleted until the transaction ends: what it finds in the log is still there when it asks for
// it. It takes no transaction id.
func KeepLog(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `select pg_advisory_xact_lock_shared(`+LockClass+`, $1::integer)`, lockTrim)
	return err
}

// TrimSkipped deletes up to limit deliveries that were skipped longer ago than keep, and returns how many. Dead letters stay,
// until somebody decides about them.
func TrimSkipped(ctx context.Context, db outbox.DB, keep time.Duration, limit int) (int, error) {
	tag, err := db.Exec(ctx, `
		delete from outbox.deliveries d
		where (d.subscription_id, d.event_id) in (
		    select s.subscription_id, s.event_id
		    from outbox.deliveries s
		    where s.state = 'skipped' and s.due_at < clock_timestamp() - $1::interval
		    order by s.due_at
		    limit $2
		    for update skip locked)`, keep, limit)
	if err != nil {
		return 0, fmt.Errorf("delete skipped deliveries: %w", err)
	}
	return int(tag.RowsAffected()), nil
}
