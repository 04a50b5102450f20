package engine

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// claimSQL takes lanes that nobody owns. Whoever else claims at the same time skips what is locked and takes others.
// In the same transaction it appends a progress row for each kind of cursor: a row that this worker wrote when it
// owned the lane before must not count any more. A subscription that is paused, on its way back, or about to have other topics gives
// nothing; nor does one that has other topics than the member reads with.
const claimSQL = `
with free as materialized (
    select l.lane
    from outbox.lanes l
    where l.subscription_id = $2 and l.owner is null
      and exists (select from outbox.subscriptions s where s.id = $2 and s.paused_at is null and s.rewind_to is null
                    and s.topics_to is null and s.topics = $4)
    order by l.lane
    limit $3
    for update skip locked
), claimed as (
    update outbox.lanes l
    set owner = $1
    from free f
    where l.subscription_id = $2 and l.lane = f.lane
    returning l.lane, l.after_id, l.pending, l.late, l.late_after_id
)
insert into outbox.progress (subscription_id, owner, lanes, after_ids, pending, late, late_after_id)
select $2, $1, array_agg(c.lane order by c.lane), array_agg(c.after_id order by c.lane), c.pending, c.late, c.late_after_id
from claimed c
group by c.pending, c.late, c.late_after_id
returning lanes, after_ids, pending, late, late_after_id`

// releaseSQL gives lanes back, with the cursors that their next owner starts from.
const releaseSQL = `
update outbox.lanes l
set owner = null, after_id = r.after_id, pending = $5, late = $6, late_after_id = $7
from unnest($3::smallint[], $4::bigint[]) as r (lane, after_id)
where l.subscription_id = $2 and l.owner = $1 and l.lane = r.lane`

// suspectSQL returns whether a claimed lane's last owner died.
const suspectSQL = `
select exists (select from outbox.lanes l where l.owner = $1 and l.subscription_id = $2 and l.suspect)`

const keepClaimSQL = `select outbox.keep_claim($1, $2, $3)`

const clearSuspectsSQL = `
update outbox.lanes l set suspect = false where l.owner = $1 and l.subscription_id = $2 and l.suspect`

// Claim takes free lanes until the member owns share of them, and returns those it got. It may get none. It fails where the
// subscription's topics change at this very moment.
func (m *Member) Claim(ctx context.Context, share int) ([]int16, error) {
	missing := share - m.owned
	if missing <= 0 || m.topics == nil {
		return nil, nil
	}
	var claimed []cursor
	err := m.inTx(ctx, m.conns.Wait, func(batch *pgx.Batch) {
		batch.Queue(claimSQL, m.worker, m.subscription, missing, []string(m.topics)).Query(func(rows pgx.Rows) (err error) {
			claimed, err = pgx.CollectRows(rows, scanCursor)
			return err
		})
		batch.Queue(keepClaimSQL, m.worker, m.subscription, []string(m.topics))
		batch.Queue(suspectSQL, m.worker, m.subscription).QueryRow(func(row pgx.Row) error { return row.Scan(&m.Suspect) })
	})
	if err != nil {
		return nil, fmt.Errorf("claim lanes: %w", err)
	}
	var lanes []int16
	for _, c := range claimed {
		lanes = append(lanes, c.lanes...)
	}
	// Their pending stays their own until a read has covered them: what is pending for others is settled here already.
	m.cursors = append(append([]cursor(nil), m.cursors...), claimed...)
	if len(claimed) > 0 {
		m.owned, m.seen = m.owned+len(lanes), nil
		m.pages.moved(m)
	}
	return lanes, nil
}

// Release gives n lanes back, or all if it owns fewer, tells the other workers, and returns which. Everything that was read
// must have been settled.
func (m *Member) Release(ctx context.Context, n int) ([]int16, error) {
	lanes := m.Lanes()
	if n = min(n, len(lanes)); n <= 0 {
		return nil, nil
	}
	lanes = lanes[len(lanes)-n:]
	rest, released := split(m.cursors, lanes)
	err := m.inTx(ctx, m.conns.Wait, func(batch *pgx.Batch) {
		for _, c := range released {
			batch.Queue(releaseSQL, m.worker, m.subscription, c.lanes, c.after, c.pending.multirange(), c.late.multirange(), c.lateAfter)
		}
		batch.Queue(AnnounceSQL)
	})
	if err != nil {
		return nil, fmt.Errorf("release lanes: %w", err)
	}
	m.cursors, m.owned = rest, m.owned-len(lanes)
	m.pages.moved(m)
	return lanes, nil
}

func scanCursor(row pgx.CollectableRow) (cursor, error) {
	var (
		c             cursor
		pending, late pgtype.Multirange[pgtype.Range[int64]]
	)
	err := row.Scan(&c.lanes, &c.after, &pending, &late, &c.lateAfter)
	c.pending, c.late = xidsOf(pending), xidsOf(late)
	return c, err
}
