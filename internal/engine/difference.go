package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/internal/uid"
	"github.com/signalbox-go/signalbox/outbox"
)

// differenceSQL returns, in this order: one row about the read itself, and the events of transactions that its snapshot sees and an
// earlier one did not. For members that stand at the end of the log as of that snapshot, these are their late and new events.
//
// Index events_xid_id is probed once for each transaction that ended in between, as by the bell's probe. That costs about 2.5 µs each,
// also where they published nothing: beyond $4 of them, it returns nothing and says so. It looks at $5 events at most.
//
// What is beyond a window's bytes comes without payload, and events of other lanes or topics come not at all: they count
// against the limit. The transaction id is assigned as in readSQL.
const differenceSQL = `
with head as materialized (
    select ` + HeadSQL + ` as id,
           pg_current_snapshot() as snapshot,
           pg_current_xact_id_if_assigned() is null as clean
), reach as materialized (
    select h.*, pg_snapshot_xmax(h.snapshot)::text::bigint as xmax,
           pg_snapshot_xmax(h.snapshot)::text::bigint - $2::bigint + cardinality($1::bigint[]) <= $4::bigint as near
    from head h
), ended as materialized (
    select x.xid
    from (select unnest($1::bigint[])
          union all
          select generate_series($2::bigint, (select case when r.near then r.xmax else $2::bigint end from reach r) - 1)) as x (xid)
    where (select r.near from reach r) and pg_visible_in_snapshot(x.xid::text::xid8, (select r.snapshot from reach r))
), found as materialized (
    select x.xid, e.*
    from ended x
    cross join lateral (
        select e.id, e.lane, e.topic, e.key, e.payload, e.headers, e.published_at
        from outbox.events e
        where e.xid = x.xid::text::xid8 and e.id > $3::bigint
        order by e.id
        limit $5::integer + 1
    ) e
    limit $5::integer + 1
), wanted as materialized (
    select f.*, sum(` + lengthSQL + `) over (rows unbounded preceding) - ` + lengthSQL + ` < $9::bigint as fits
    from found f
    where f.lane = any ($6::smallint[]) and ($7::text[] is null or f.topic like any ($7::text[]))
)
select null::bigint as xid, r.id, 0::smallint as lane, r.snapshot::text as topic,
       case when r.id > $8::bigint and r.near then pg_current_xact_id()::text end as key,
       case when not r.near or (select count(*) from found) > $5::integer then to_json(1) end as payload,
       case when r.clean then '{}'::jsonb end as headers,
       null::timestamptz as published_at
from reach r
union all
select w.xid, w.id, w.lane, w.topic, w.key, case when w.fits then w.payload end, case when w.fits then w.headers end, w.published_at
from wanted w`

// lengthSQL is about how many bytes an event f is long: see fitsSQL.
const lengthSQL = `octet_length(f.payload::text) + case when pg_column_size(f.headers) < 64 then 64 else octet_length(f.headers::text) end`

const (
	// differenceRows is how many events a difference looks at. More are read by lanes, in parts.
	differenceRows = 2000
	// differenceEnded is how many ended transactions a difference probes for, for each lane of its members: to read that lane instead
	// would cost about as much.
	differenceEnded = 2
)

// A Stand is where a member stands that has read all its lanes to their end: it has, or has settled, all that its snapshot saw. It
// may read by difference from there, together with others.
type Stand struct {
	cursors  []cursor
	snapshot snapshot
	topics   topic.Patterns
	filter   []string
	floor    int64
	tag      uint16
	most     int
}

// Stand returns where the member stands, and false if it has to read by lanes: after a claim, and behind a window that was cut or
// in which some lanes were not read. From then on until Move, nothing else may move its cursors.
func (m *Member) Stand() (Stand, bool) {
	if m.seen == nil || len(m.cursors) != 1 {
		return Stand{}, false
	}
	return Stand{m.cursors, *m.seen, m.topics, m.like, m.floor, m.tag, m.most}, true
}

// Move has the member stand where a difference has brought it, and returns its window: what it has not seen before.
func (m *Member) Move(d *Difference) *Window {
	w := &Window{before: m.cursors, seenBefore: m.seen, cursors: m.cursors}
	var mine [Lanes]bool
	for _, lane := range m.cursors[0].lanes {
		mine[lane] = true
	}
	var (
		last   string
		wanted bool
		arena  arena
	)
	for i := range d.events {
		e := &d.events[i]
		if !mine[e.Lane] || m.seen.sees(d.xids[i]) {
			continue
		}
		if e.Topic != last {
			last, wanted = e.Topic, m.topics.Match(e.Topic)
		}
		if !wanted {
			continue
		}
		own := *e
		if d.members > 1 { // a handler may do with its event what it likes
			own.Payload, own.Headers = arena.bytes(e.Payload), maps.Clone(e.Headers)
		}
		w.Events = append(w.Events, own)
		w.bytes += size(e)
	}
	next := advance(m.cursors, d.reading)
	if w.moved = d.next != 0 || shrunk(m.cursors, next); w.moved {
		w.cursors = next
	}
	w.Events = inOrder(w.Events)
	m.cursors, m.seen = w.cursors, &d.snapshot
	m.pages.moved(m)
	return w
}

// size is about how many bytes of memory an event takes.
func size(e *Event) int { return len(e.Topic) + len(e.Key) + len(e.Payload) + 64 }

// A Difference is what one statement has found for members that stand at the end of the log.
type Difference struct {
	reading
	events []Event
	xids   []int64 // of the events' transactions
	more   bool

	members int
}

// More reports whether there was more than a difference may have: then it is of no use, and the members have to read by lanes.
func (d *Difference) More() bool { return d.more }

// Len is how many events it found that any of the members wants.
func (d *Difference) Len() int { return len(d.events) }

// ReadDifference reads for members that stand there, from the oldest of their snapshots: each takes what its own did not see. The
// connection is the one that they read over.
//
// Any error leaves the connection unusable for them: what was read over it must not be settled.
func ReadDifference(ctx context.Context, conn naming.Conn, stands []Stand) (*Difference, error) {
	var d *Difference
	err := readOver(ctx, conn, differenceSQL, differenceArgs(stands), func(rows pgx.Rows) (err error) {
		d, err = collectDifference(rows, stands[0].tag)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the difference: %w", err)
	}
	d.members = len(stands)
	for _, s := range stands {
		if slices.Max(s.cursors[0].after) > d.head {
			return nil, fmt.Errorf("read the difference: %w", outbox.ErrLogBehind)
		}
	}
	return d, nil
}

// differenceArgs are the parameters of differenceSQL.
func differenceArgs(stands []Stand) []any {
	oldest, floor, least, lanes, most := stands[0].snapshot, stands[0].floor, stands[0].cursors[0].after[0], 0, 0
	var (
		owned  [Lanes]bool
		filter = []string{}
	)
	for _, s := range stands {
		if s.snapshot.older(oldest) {
			oldest = s.snapshot
		}
		floor, least, most = max(floor, s.floor), min(least, slices.Min(s.cursors[0].after)), max(most, s.most)
		for _, lane := range s.cursors[0].lanes {
			owned[lane] = true
			lanes++
		}
		if s.filter == nil {
			filter = nil // one of them wants everything
		}
		if filter != nil {
			filter = append(filter, s.filter...)
		}
	}
	var all []int16
	for lane, mine := range owned {
		if mine {
			all = append(all, int16(lane))
		}
	}
	slices.Sort(filter)
	xip := oldest.xip
	if xip == nil {
		xip = []int64{}
	}
	return []any{
		xip, oldest.xmax, floor, int64(max(lanes, Lanes) * differenceEnded), int32(differenceRows), all, slices.Compact(filter), least, int64(most),
	}
}

func collectDifference(rows pgx.Rows, tag uint16) (*Difference, error) {
	defer rows.Close()
	d := &Difference{reading: reading{stopped: map[int16]int64{}}}
	var (
		arena arena
		text  [uid.Len]byte
	)
	for rows.Next() {
		raw := rows.RawValues()
		id := int64(binary.BigEndian.Uint64(raw[1]))
		if raw[0] == nil {
			if err := d.readMeta(raw, id); err != nil {
				return nil, err
			}
			d.more, d.lateCut = d.lateCut != 0, 0
			continue
		}
		if d.more = d.more || raw[5] == nil; d.more {
			continue
		}
		published := int64(binary.BigEndian.Uint64(raw[7])) + microsecondsTo2000
		e := Event{Lane: int16(binary.BigEndian.Uint16(raw[2])), Event: outbox.Event{
			ID: id, UID: arena.text(uid.Append(text[:0], tag, id, published)), Topic: arena.text(raw[3]), Key: arena.text(raw[4]), Payload: arena.bytes(raw[5]), PublishedAt: time.UnixMicro(published).UTC(),
		}}
		e.Headers = ParseHeaders(raw[6])
		d.events, d.xids = append(d.events, e), append(d.xids, int64(binary.BigEndian.Uint64(raw[0])))
	}
	return d, rows.Err()
}

// Join adds to a window the one that was read after it: both are one read, which took longer. Their events are handled in the order of
// their ids.
func (w *Window) Join(next *Window) {
	if next.moved {
		w.cursors, w.moved = next.cursors, true
	}
	w.bytes += next.bytes
	if len(next.Events) > 0 {
		w.Events = inOrder(append(w.Events, next.Events...))
	}
}

// Bytes is about how much memory the events of the window take.
func (w *Window) Bytes() int { return w.bytes }
