package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Position is a place in the log, at which a new subscription begins or to which one goes back. Its zero value is
// FromBeginning.
type Position struct {
	now bool
	id  int64
	at  time.Time
}

var (
	// FromBeginning reads everything that the log still has.
	FromBeginning = Position{}
	// FromNow reads what is committed from now on, including what running transactions have already published.
	FromNow = Position{now: true}
)

// FromID reads from the event with this id on. No event needs to have the id, but it may not be higher than the one that the
// next event gets. What a running transaction has published under a lower id is not read.
func FromID(id int64) Position { return Position{id: id} }

// FromTime reads what was published at this time or later: what counts is when the publishing statement began. The ids of
// statements that run at the same time mix, so some of the first events may be slightly older. If statements with hundreds of
// thousands of events were running at that time, some events of other statements may be left out: choose an earlier time then.
func FromTime(at time.Time) Position { return Position{at: at} }

// ErrInvalidPosition says that a position is not in the log, or is not possible there.
var ErrInvalidPosition = errors.New("invalid position")

// after returns the last id that is not read from p on. Not for FromNow, which is no single id.
func (p Position) after(ctx context.Context, tx pgx.Tx) (int64, error) {
	switch {
	case !p.at.IsZero():
		first, err := firstSince(ctx, tx, p.at)
		return first - 1, err
	case p.id == 0:
		return 0, nil
	case p.id < 0:
		return 0, fmt.Errorf("%w: id %d is negative", ErrInvalidPosition, p.id)
	}
	next, err := nextID(ctx, tx)
	if err == nil && p.id > next {
		err = fmt.Errorf("%w: id %d is beyond the end of the log, the next event gets id %d", ErrInvalidPosition, p.id, next)
	}
	return p.id - 1, err
}

// nextID is the id that the next event gets.
func nextID(ctx context.Context, tx pgx.Tx) (id int64, err error) {
	err = tx.QueryRow(ctx, `select `+headSQL+` + 1`).Scan(&id)
	return id, err
}

// firstSinceSQL is a binary search in each lane, by index events_lane_id: a few dozen probes. Times nearly rise with
// ids; where they do not, because statements overlapped, it may end anywhere among those. So it looks at the $2 events before
// that, too.
const firstSinceSQL = `
with recursive head as materialized (
    select ` + headSQL + ` as id
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

// lookBack is how many events of each lane are searched for stragglers.
const lookBack = 1000

// firstSince returns the id of the first event that was published at a time or later, or the next id if there is none.
func firstSince(ctx context.Context, tx pgx.Tx, at time.Time) (id int64, err error) {
	if _, err = tx.Exec(ctx, scanSetup); err == nil {
		err = tx.QueryRow(ctx, firstSinceSQL, at, lookBack).Scan(&id)
	}
	if err != nil {
		return 0, fmt.Errorf("look for %v: %w", at, err)
	}
	return id, nil
}
