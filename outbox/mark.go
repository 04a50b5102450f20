package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Mark says how far the log had been written, and how far each subscription had settled it, at a moment. Two marks tell the
// rates in between.
type Mark struct {
	At      time.Time          // by the database's clock
	Last    int64              // the last id that was taken; those of transactions that rolled back are among them
	Settled map[string]float64 // by subscription: the id up to where it has settled the log, as the mean of its lanes
}

const markSQL = `
with cursors as materialized (` + cursorsSQL + `
)
select clock_timestamp(), (select coalesce(max(h.last_value) filter (where h.is_called), 0) from outbox.events_id_seq h),
       array(select s.name from outbox.subscriptions s order by s.id),
       array(select (select coalesce(avg(c.after_id), 0) from cursors c where c.subscription_id = s.id)::double precision
             from outbox.subscriptions s order by s.id)`

// ReadMark returns the mark of this moment. It reads no event. Safe for concurrent use as far as db is.
func ReadMark(ctx context.Context, db DB) (Mark, error) {
	var (
		m       Mark
		names   []string
		settled []float64
	)
	if err := db.QueryRow(ctx, markSQL).Scan(&m.At, &m.Last, &names, &settled); err != nil {
		return Mark{}, fmt.Errorf("read how far the log is: %w", err)
	}
	m.Settled = make(map[string]float64, len(names))
	for i, name := range names {
		m.Settled[name] = settled[i]
	}
	return m, nil
}

// A LaneRow says who owns a lane of a subscription, and how far it is.
type LaneRow struct {
	Lane    int16  `json:"lane"`
	Owner   string `json:"owner"` // name of the worker; "" for nobody
	AfterID int64  `json:"after_id"`
	Behind  int64  `json:"behind"` // ids between its cursor and the end of the log, those of other lanes and topics included
}

const laneRowsSQL = `
with cursors as materialized (` + cursorsSQL + `
    where l.subscription_id = (select s.id from outbox.subscriptions s where s.name = $1)
)
select c.lane, coalesce(w.name, ''), c.after_id,
       greatest((select coalesce(max(h.last_value) filter (where h.is_called), 0) from outbox.events_id_seq h) - c.after_id, 0)
from cursors c
join outbox.lanes l on l.subscription_id = c.subscription_id and l.lane = c.lane
left join outbox.workers w on w.id = l.owner
order by c.lane`

// LaneRows returns the lanes of a subscription in their order, and none where there is no subscription of that name. Safe for
// concurrent use as far as db is.
func LaneRows(ctx context.Context, db DB, name string) ([]LaneRow, error) {
	rows, _ := db.Query(ctx, laneRowsSQL, name)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[LaneRow])
	if err != nil {
		return nil, fmt.Errorf("list lanes of %q: %w", name, err)
	}
	return list, nil
}

// A BlockedKey is a key whose events wait behind an unfinished one.
type BlockedKey struct {
	Key     string    `json:"key"`
	Head    int64     `json:"head"`    // id of the event that is to be handled first
	State   State     `json:"state"`   // of that: Dead where the key waits for a decision
	Attempt int       `json:"attempt"` // attempts at it that were begun
	DueAt   time.Time `json:"due_at"`  // when it may be tried again
	Error   string    `json:"error"`   // of its last attempt; "" before the first one
	Waiting int64     `json:"waiting"` // events behind it that are deliveries already
}

// Index deliveries_line has the lines of all keys one after the other.
const blockedKeysSQL = `
with line as materialized (
    select d.event_id, d.lane, d.key
    from outbox.deliveries d
    where d.subscription_id = (select s.id from outbox.subscriptions s where s.name = $1)
      and d.key is not null and (d.state in ('retrying', 'running') or d.stops_key)
    limit $2
), longest as materialized (
    select l.key, min(l.event_id) as head, count(*) - 1 as waiting
    from line l
    group by l.lane, l.key
    order by 3 desc, 2
    limit $3
)
select l.key, l.head, d.state, d.attempt, d.due_at, coalesce(d.errors -> -1 ->> 'error', ''), l.waiting
from longest l
join outbox.deliveries d on d.event_id = l.head and d.subscription_id = (select s.id from outbox.subscriptions s where s.name = $1)
order by l.waiting desc, l.head`

// BlockedKeys returns the keys of a subscription that have unfinished events, those with the longest lines first, up to limit.
// It looks at no more than GlanceMost deliveries. Safe for concurrent use.
func BlockedKeys(ctx context.Context, db Beginner, name string, limit int) (list []BlockedKey, err error) {
	err = scanning(ctx, db, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, blockedKeysSQL, name, GlanceMost, limit)
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[BlockedKey])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list blocked keys of %q: %w", name, err)
	}
	return list, nil
}
