package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/signalbox-go/signalbox/internal/naming"
)

// lateShare is which part of a window late events may have while other lanes go on.
const lateShare = 8

// turn returns the cursors that the next read is for, and the others. Lanes that catch up with a transaction whose late events do not
// fit in a window take nothing new meanwhile; the others go on, in turns with them. Where one of them has an event that is long, its turn is not
// over: only that read may take one.
func (m *Member) turn() (cursors, others []cursor) {
	var late, rest []cursor
	for _, c := range m.cursors {
		if len(c.late) > 0 {
			late = append(late, c)
		} else {
			rest = append(rest, c)
		}
	}
	if len(late) == 0 || len(rest) == 0 {
		return m.cursors, nil
	}
	if !m.long {
		m.caughtUp = !m.caughtUp
	}
	if m.caughtUp {
		return late, rest
	}
	return rest, late
}

// lateLanesSQL walks the late events of transactions beyond a cut, by index events_xid_id, and says which lanes they are in. That
// takes a millisecond for a thousand of them, once for each such transaction.
const lateLanesSQL = `
select array(
    select distinct e.lane
    from unnest($1::bigint[], $2::bigint[]) as r (from_xid, to_xid)
    cross join lateral generate_series(r.from_xid, r.to_xid - 1) as x (xid)
    cross join lateral (select e.lane from outbox.events e where e.xid = x.xid::text::xid8 and e.id > $3 and e.id > $4) e)`

// partLate parts the lanes of cursors that have just been cut from those that have no more late events: only the first have to catch up.
func (m *Member) partLate(ctx context.Context, conn naming.Conn, cursors []cursor) ([]cursor, error) {
	var parted []cursor
	for _, c := range cursors {
		if len(c.late) == 0 {
			parted = append(parted, c)
			continue
		}
		var from, to []int64
		for _, s := range c.late {
			from, to = append(from, s.from), append(to, s.to)
		}
		tx, err := conn.Begin(ctx)
		if err != nil {
			return nil, fmt.Errorf("look for lanes with late events: %w", err)
		}
		var lanes []int16
		if _, err = tx.Exec(ctx, readSetup); err == nil {
			err = tx.QueryRow(ctx, lateLanesSQL, from, to, c.lateAfter, m.floor).Scan(&lanes)
		}
		if err == nil {
			err = tx.Commit(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("look for lanes with late events: %w", err)
		}
		rest, behind := split([]cursor{c}, lanes)
		for i := range rest {
			rest[i].late, rest[i].lateAfter = nil, 0
		}
		parted = append(append(parted, rest...), behind...)
	}
	return slices.Clip(parted), nil
}
