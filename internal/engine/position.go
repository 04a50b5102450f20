package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/position"
	"github.com/signalbox-go/signalbox/outbox"
)

// startCursor returns where all lanes of a new subscription stand. The transaction must not have written before.
func startCursor(ctx context.Context, tx pgx.Tx, p outbox.Position) (after int64, pending xids, err error) {
	if p.Kind != position.Now {
		after, err = AfterPosition(ctx, tx, p)
		return after, nil, err
	}
	// As for a read that reached every lane's end.
	var (
		seen string
		next int64
	)
	err = tx.QueryRow(ctx, `
		select pg_current_snapshot()::text, h.id, case when h.id >= 0 then pg_current_xact_id()::text::bigint end
		from (select `+HeadSQL+` as id) h`).
		Scan(&seen, &after, &next)
	if err != nil {
		return 0, nil, err
	}
	s, err := parseSnapshot(seen)
	return after, s.unseen(next), err
}

// AfterPosition returns the last id that is not read from p on. Not for FromNow, which is no single id.
func AfterPosition(ctx context.Context, tx pgx.Tx, p outbox.Position) (int64, error) {
	switch {
	case p.Kind == position.Time && p.At.IsZero():
		return 0, fmt.Errorf("%w: the zero time is none: use FromBeginning for the whole log", outbox.ErrInvalidPosition)
	case p.Kind == position.Time:
		first, err := FirstSince(ctx, tx, p.At)
		return first - 1, err
	case p.Kind != position.ID:
		return 0, nil
	case p.ID < 1:
		return 0, fmt.Errorf("%w: ids begin at 1, and this one is %d: use FromBeginning for the whole log", outbox.ErrInvalidPosition, p.ID)
	}
	next, err := NextID(ctx, tx)
	if err == nil && p.ID > next {
		err = fmt.Errorf("%w: id %d is beyond the end of the log, the next event gets id %d", outbox.ErrInvalidPosition, p.ID, next)
	}
	return p.ID - 1, err
}

// NextID is the id that the next event gets.
func NextID(ctx context.Context, tx pgx.Tx) (id int64, err error) {
	err = tx.QueryRow(ctx, `select `+HeadSQL+` + 1`).Scan(&id)
	return id, err
}

// FirstSinceSQL is a binary search in each lane, by index events_lane_id: a few dozen probes. Times nearly rise with
// ids; where they do not, because statements overlapped, it may end anywhere among those. So it looks at the $2 events before
// that, too.
const FirstSinceSQL = `
with recursive head as materialized (
    select ` + HeadSQL + ` as id
), search as (
    select t.lane, t.up_to as low, greatest(t.up_to, (select h.id from head h)) as high
    from outbox.trimmed t
    union all
    select s.lane,
           case when e.published_at < $1 then e.id else s.low end,
           case when e.published_at < $1 then s.high else (s.low + s.high) / 2 end
    from search s
    left join lateral (
        select e.id, e.published_at
        from outbox.events e
        where e.lane = s.lane and e.id > (s.low + s.high) / 2
        order by e.id
        limit 1
    ) e on true
    where s.low < s.high
), found as materialized (
    select s.lane, s.low from search s where s.low >= s.high
)
select least((select h.id + 1 from head h), (
    select min(e.id)
    from found f
    cross join lateral (
        select e.id from outbox.events e where e.lane = f.lane and e.id > f.low order by e.id limit 1
    ) e
), (
    select min(e.id)
    from found f
    join outbox.trimmed t on t.lane = f.lane
    cross join lateral (
        select e.id, e.published_at
        from outbox.events e
        where e.lane = f.lane and e.id <= f.low and e.id > t.up_to
        order by e.id desc
        limit $2
    ) e
    where e.published_at >= $1
))`

// LookBack is how many events of each lane are searched for stragglers.
const LookBack = 1000

// FirstSince returns the id of the first event that was published at a time or later, or the next id if there is none.
func FirstSince(ctx context.Context, tx pgx.Tx, at time.Time) (id int64, err error) {
	if _, err = tx.Exec(ctx, ScanSetup); err == nil {
		err = tx.QueryRow(ctx, FirstSinceSQL, at, LookBack).Scan(&id)
	}
	if err != nil {
		return 0, fmt.Errorf("look for %v: %w", at, err)
	}
	return id, nil
}
