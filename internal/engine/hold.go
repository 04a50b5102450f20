package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Hold says that a key is held: what cursors have passed of it from an event on is neither settled nor a delivery, but only in
// the log. The invariant of cursors has it as an exception: see docs/design.md.
//
// A hold begins at an event that was new to its lane's cursor when its window was read: so nothing of the key at or above From has
// been settled. An event below From that turns up late becomes a delivery.
type Hold struct {
	Lane int16
	Key  string
	From int64
}

// A heldLine is a hold as the database has it.
type heldLine struct {
	Hold
	Old bool
}

const holdSQL = `
insert into outbox.held_keys (subscription_id, lane, key, from_id)
select $1, h.lane, h.key, h.from_id from unnest($2::smallint[], $3::text[], $4::bigint[]) as h (lane, key, from_id)`

// queueHolds adds the statement that begins holds.
func (m *Member) queueHolds(batch *pgx.Batch, holds []Hold) {
	lanes, keys, from := make([]int16, len(holds)), make([]string, len(holds)), make([]int64, len(holds))
	for i, h := range holds {
		lanes[i], keys[i], from[i] = h.Lane, h.Key, h.From
	}
	batch.Queue(holdSQL, m.subscription, lanes, keys, from)
}

// heldSQL has the holds of lanes, by the primary key: one for each key that is stuck. It tells which of them keep events in the log
// that are older than $3, by a probe of events_lane_id for each lane, and for each hold where something is that old. A probe for each
// at every look would be slow beside a large transaction that still runs: it walks its rows.
const heldSQL = `
with lanes as materialized (
    select l.lane, (select e.published_at from outbox.events e where e.lane = l.lane and e.id >= l.from_id order by e.id limit 1)
                   < clock_timestamp() - $3::interval as old
    from (select h.lane, min(h.from_id) as from_id
          from outbox.held_keys h
          where h.subscription_id = $1 and h.lane = any ($2::smallint[])
          group by h.lane) l
)
select h.lane, h.key, h.from_id,
       l.old is true and coalesce((select e.published_at from outbox.events e where e.lane = h.lane and e.id >= h.from_id order by e.id limit 1)
                                  < clock_timestamp() - $3::interval, false) as old
from lanes l
join outbox.held_keys h on h.subscription_id = $1 and h.lane = l.lane`

// A Want is a held key and how many deliveries its line has room for.
type Want struct {
	Key  string
	Rows int
}

// A Refill is what became of a held key.
type Refill struct {
	Key  string
	Rows int   // deliveries that were added to its line
	From int64 // where the hold begins now; 0 when it is over
	Old  bool  // whether there may be more that is old enough to be deleted
}

// refillSQL walks a lane once for all of its held keys that have room, by index events_lane_id, from the lowest place where one of
// them is held. There is no index by key: a walk for each of them would be quadratic. It looks at $6 events at most, so that a key
// which is held for days costs small statements.
//
// It ends at the cursor that is settled, and passes over what that cursor still waits for: those events are found by the read that
// sees them, and are below the hold by then. What this statement sees and the cursor's read did not is all of that kind.
//
// What is taken of a key is the beginning of what is held, also where that is for its age: times of publication are not in the order of
// ids, and one that was taken before an earlier one would be handled before it, and taken again with it.
const refillSQL = `
with held as materialized (
    select h.key, h.from_id, w.rows
    from unnest($3::text[], $4::integer[]) as w (key, rows)
    join outbox.held_keys h on h.subscription_id = $1 and h.lane = $2 and h.key = w.key
), walked as materialized (
    select e.id, e.xid::text::bigint as xid, e.topic, e.key,
           coalesce(e.published_at < clock_timestamp() - $12::interval, false) as old
    from outbox.events e
    where e.lane = $2 and e.id >= (select min(h.from_id) from held h) and e.id <= $5
    order by e.id
    limit $6
), reached as materialized (
    select case when count(*) < $6 then $5::bigint else max(w.id) end as id, count(*) < $6 as ended,
           coalesce(bool_and(w.old), false) as old
    from walked w
), found as materialized (
    select w.id, w.key, row_number() over line <= h.rows or bool_and(w.old) over line as taken
    from walked w
    join held h on h.key = w.key and w.id >= h.from_id
    where w.topic ~ $7
      and (w.id <= $8 or not ($9::int8multirange @> w.xid or w.id > $11 and $10::int8multirange @> w.xid))
    window line as (partition by w.key order by w.id)
), added as (
    insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at)
    select $1, e.id, e.lane, e.topic, e.key, case when $13::boolean then null else e.payload end, case when $13::boolean then null else e.headers end,
           e.published_at, 'retrying', clock_timestamp()
    from found f
    join outbox.events e on e.lane = $2 and e.id = f.id
    where f.taken
    on conflict (subscription_id, event_id) do nothing
), refilled as materialized (
    select h.key,
           count(f.id) filter (where f.taken) as rows,
           coalesce(min(f.id) filter (where not f.taken), greatest(max(h.from_id), max(r.id) + 1)) as from_id,
           bool_and(r.ended) and count(f.id) filter (where not f.taken) = 0 as over,
           bool_and(r.old) and not bool_and(r.ended) and count(f.id) filter (where not f.taken) = 0 as old
    from held h
    cross join reached r
    left join found f on f.key = h.key
    where h.from_id <= r.id or r.ended -- else the walk has not come to it
    group by h.key
), gone as (
    delete from outbox.held_keys h
    using refilled r
    where r.over and h.subscription_id = $1 and h.lane = $2 and h.key = r.key
), moved as (
    update outbox.held_keys h
    set from_id = r.from_id
    from refilled r
    where not r.over and h.subscription_id = $1 and h.lane = $2 and h.key = r.key
)
select r.key, r.rows, case when r.over then 0 else r.from_id end, r.old
from refilled r`

// refillSetup keeps the planner to indexes on the log; held keys may be many, and are joined by hash.
const refillSetup = `
select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true), set_config('row_security', 'off', true)`

// interval is keep as a parameter: null where everything is kept.
func interval(keep time.Duration) *time.Duration {
	if keep < 0 {
		return nil
	}
	return &keep
}

// A Position is where a member's cursors stood at some moment.
type Position struct{ cursors []cursor }

// Decided returns up to where the member has read and every window was decided. The first of those that were read and are not is ahead; nil
// if there is none.
func (m *Member) Decided(ahead *Window) Position {
	if ahead != nil {
		return Position{ahead.before}
	}
	return Position{m.cursors}
}

// Refill makes deliveries of what the log has of a lane's held keys, as many as their lines have room for, and all that is older than
// keep, so that the log need not keep it. It looks at limit events at most, and returns the keys that it has come to. Every window that was
// decided, so that its events are handled, deliveries or held, must be settled before, and at is where those end: what was read since is
// decided after. inLog is that of [Unfinished].
func (m *Member) Refill(ctx context.Context, lane int16, wants []Want, at Position, limit int, keep time.Duration, inLog bool) (refills []Refill, err error) {
	_, mine := split(at.cursors, []int16{lane})
	if len(mine) != 1 {
		return nil, fmt.Errorf("refill held keys: lane %d is not owned", lane)
	}
	c := mine[0]
	keys, rows := make([]string, len(wants)), make([]int32, len(wants))
	for i, w := range wants {
		keys[i], rows[i] = w.Key, int32(w.Rows)
	}
	err = m.inTx(ctx, m.conns.Wait, func(batch *pgx.Batch) {
		batch.Queue(refillSetup)
		batch.Queue(refillSQL, m.subscription, lane, keys, rows, c.after[0], limit, m.topics.Regex(), m.floor,
			c.pending.multirange(), c.late.multirange(), c.lateAfter, interval(keep), inLog).Query(func(found pgx.Rows) (err error) {
			refills, err = pgx.CollectRows(found, pgx.RowToStructByPos[Refill])
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("refill held keys: %w", err)
	}
	return refills, nil
}

// New reports whether an event of the window was beyond its lane's cursor before; else its transaction was late.
func (w *Window) New(e *Event) bool {
	if w.after == nil {
		w.after = &[Lanes]int64{}
		for _, c := range w.before {
			for i, lane := range c.lanes {
				w.after[lane] = c.after[i]
			}
		}
	}
	return e.ID > w.after[e.Lane]
}
