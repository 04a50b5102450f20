package engine

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Window is a run of events that was read from lanes in one go, sorted by id.
type Window struct {
	// Events are those that match the subscription's topics.
	Events []Event

	before     []cursor  // where the lanes stood
	seenBefore *snapshot // the member's seen before
	cursors    []cursor  // where they stand once all of Events are handled
	moved      bool      // whether that is somewhere else than before
	full       bool      // whether there may be more to read at once
	bytes      int       // of Events, about
	old        bool      // whether it was read for another member, some time before

	after *[Lanes]int64 // before, by lane, once New was asked
}

// Empty reports whether the read found nothing: neither an event nor a cursor to move.
func (w *Window) Empty() bool { return len(w.Events) == 0 && !w.moved }

// More reports whether the window was cut, so that another read would find more.
func (w *Window) More() bool { return w.full }

// Old reports whether the window was read for another member, some time before: there may be more by now.
func (w *Window) Old() bool { return w.old }

// windowBytes bounds the memory of one window, unless Limit does: beyond, rows that arrive are left for the next read.
const windowBytes = 16 << 20

// shareFactor is how many times its share of windowBytes an event may be long to be sent with the others.
const shareFactor = 4

// readSetup keeps the planner from doing anything but probing the two indexes: on a table without statistics, or one
// that grew since the plan was made, it may prefer to scan it all. JIT would compile for the costs of what is disabled.
// Where row security would hide rows, it ends with an error instead: cursors would pass what it hides.
// One statement, sent along with the read: behind a pooling proxy nothing must be left behind in the session.
const readSetup = `
select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true),
       set_config('plan_cache_mode', 'force_generic_plan', true), set_config('row_security', 'off', true)`

// readSQL returns, in this order: one row about the read itself, late events, new rows.
//
// The plan is pinned by TestPlans: late events by index events_xid_id, one probe for each ended transaction that was
// pending; new rows by index events_lane_id, one scan for each lane that ends at its limit. Two things matter:
//   - Running transactions are filtered before the probe, or it would walk their invisible rows, a million at times.
//   - Lanes and ids of late events are compared after the probe. As a join, the planner would scan all below a cursor.
//
// Topics are filtered here, and cursors pass what does not match. The rows looked at count against the window, so a
// subscription to a rare topic does not scan a week of the log in one statement: a row that is not wanted comes as a
// bare id.
//
// What is much longer than its share of the window is kept back, without a payload, and cuts its lane: so a statement sends at
// most four windows each of late events, of lanes that were cut and of others, whatever the log has. An event that nothing of its lane comes before is fetched by
// the next read, which takes one of each lane. Only what is compressed is measured by its text.
//
// The transaction id is assigned after the statement's snapshot was taken and after head was read: it is in the select
// list, and its condition needs head. Where no lane can have moved, none is assigned.
const readSQL = `
with head as materialized (
    select ` + HeadSQL + ` as id,
           pg_current_snapshot() as snapshot,
           pg_current_xact_id_if_assigned() is null as clean
), lanes as materialized (
    select l.* from unnest($1::smallint[], $2::bigint[], $3::integer[], $4::smallint[]) as l (lane, after_id, take, part)
), pending as materialized (
    select p.* from unnest($5::smallint[], $6::bigint[], $7::bigint[], $8::bigint[]) as p (part, from_xid, to_xid, late_after_id)
), ended as materialized (
    select x.xid, min(p.late_after_id) as late_after_id
    from pending p, generate_series(p.from_xid, p.to_xid - 1) as x (xid)
    where pg_visible_in_snapshot(x.xid::text::xid8, (select h.snapshot from head h))
    group by x.xid
), late as materialized (
    select x.xid, e.*
    from ended x
    cross join lateral (
        select e.id, e.lane, e.topic, e.key, e.payload, e.headers, e.published_at
        from outbox.events e
        where e.xid = x.xid::text::xid8 and e.id > greatest(x.late_after_id, $9::bigint) and e.id <= $10::bigint
        order by e.id
        limit $11::integer + 1
    ) e
    order by e.id
    limit $11::integer + 1
)
select 0::smallint as kind, h.id, 0::smallint as lane,
       h.snapshot::text as topic,
       case when h.id > $12::bigint then pg_current_xact_id()::text end as key,
       case when (select count(*) from late) > $11::integer then to_json((select max(l.id) from late l)) end as payload,
       case when h.clean then '{}'::jsonb end as headers,
       null::timestamptz as published_at
from head h
union all
(select 1::smallint, e.id, e.lane, e.topic, e.key, case when ` + fitsSQL + ` then e.payload end, case when ` + fitsSQL + ` then e.headers end, e.published_at
 from late e
 join lanes l on l.lane = e.lane and e.id <= l.after_id
 where ($13::text[] is null or e.topic like any ($13::text[]))
   and exists (select from pending p
               where p.part = l.part and e.xid >= p.from_xid and e.xid < p.to_xid and e.id > p.late_after_id)
 order by e.id)
union all
select 2::smallint, e.id, l.lane, case when e.fits is not null then e.topic end, case when e.fits is not null then e.key end,
       case when e.fits then e.payload end, case when e.fits then e.headers end, e.published_at
from lanes l
cross join lateral (
    select e.id, e.topic, e.key, e.payload, e.headers, e.published_at,
           case when $13::text[] is null or e.topic like any ($13::text[]) then ` + fitsSQL + ` end as fits -- null: it is not wanted
    from outbox.events e
    where e.lane = l.lane and e.id > l.after_id
    order by e.id
    limit l.take
) e`

// fitsSQL is whether an event e may be sent: $14 is the most that it may be long. The length of a text is known without reading it, also
// of one that is stored elsewhere, or compressed; that of headers has to be found out, and nearly all have none.
const fitsSQL = `
       octet_length(e.payload::text) + case when pg_column_size(e.headers) < 64 then 0 else octet_length(e.headers::text) end <= $14::integer`

// readArgs are the parameters of readSQL for some of the member's cursors.
func (m *Member) readArgs(cursors []cursor, limit int, filter []string) []any {
	longest := shareFactor * m.most / limit
	if m.long {
		limit, longest = 1, math.MaxInt32
	}
	var (
		lanes          []int16
		after          []int64
		take           []int32
		parts          []int16
		spanParts      []int16
		from, to, late []int64
		maxAfter       int64
		minAfter       int64 = math.MaxInt64
		catchingUp           = catchingUp(cursors)
	)
	hot := 0
	for _, c := range cursors {
		for _, lane := range c.lanes {
			if m.hot[lane] {
				hot++
			}
		}
	}
	total := lanesOf(cursors)
	for part, c := range cursors {
		set := c.pending
		if catchingUp {
			set = c.late
		}
		for _, s := range set {
			spanParts = append(spanParts, int16(part))
			from, to, late = append(from, s.from), append(to, s.to), append(late, c.lateAfter)
		}
		for i, lane := range c.lanes {
			// Lanes that were cut last time share a window's worth, the others another: so a single busy key gets it all,
			// and a sudden burst in all lanes stays bounded.
			n := max(1, limit/total)
			switch {
			case catchingUp || m.Full[lane]:
				n = 0
			case m.hot[lane]:
				n = max(1, limit/hot)
			}
			if n > 0 {
				minAfter = min(minAfter, c.after[i])
			}
			maxAfter = max(maxAfter, c.after[i])
			lanes, after, take, parts = append(lanes, lane), append(after, c.after[i]), append(take, int32(n)), append(parts, int16(part))
		}
	}
	// A window that is full leaves lanes out. They come first in the next one, or some might be left out for ever.
	if at := slices.Index(lanes, m.first); at > 0 {
		lanes, after, take, parts = turned(lanes, at), turned(after, at), turned(take, at), turned(parts, at)
	}
	// One event of each lane may be more than a window: then it is some of them at a time.
	m.left = [Lanes]bool{}
	fits := max(1, m.byteLimit())
	if m.long {
		fits = max(1, m.most/outbox.MaxPayloadBytes)
	}
	if fits < len(lanes) && !catchingUp {
		m.first = lanes[fits]
		for i := fits; i < len(lanes); i++ {
			m.left[lanes[i]] = !m.Full[lanes[i]]
			take[i] = 0
		}
	}
	return []any{
		lanes, after, take, parts, spanParts, from, to, late,
		m.floor, maxAfter, int32(limit), minAfter, filter, int32(longest),
	}
}

// turned returns a list that begins in its middle and goes around.
func turned[T any](list []T, at int) []T { return slices.Concat(list[at:], list[:at]) }

// Read returns the next window: about limit events at most, and no more where that is less than the lanes are; fewer where they are large. It covers all lanes that the
// member owns, and continues where the last read ended, whether or not that one was settled. Where another member has read the same
// before, it returns that: see Pages.
//
// Any error leaves the connection unusable for this member: what was read over it must not be settled.
func (m *Member) Read(ctx context.Context, limit int) (w *Window, err error) {
	if w = m.takePage(limit); w != nil {
		return w, nil
	}
	err = m.conns.Read(ctx, func(conn naming.Conn) error {
		if w = m.takePage(limit); w != nil { // it was read while this one waited
			return nil
		}
		w, err = m.read(ctx, conn, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return w, nil
}

func (m *Member) read(ctx context.Context, conn naming.Conn, limit int) (*Window, error) {
	asked := limit
	limit = max(1, min(limit, m.byteLimit()))
	cursors, others := m.turn()
	catchingUp := catchingUp(cursors)
	if len(others) > 0 && catchingUp {
		limit = max(1, limit/lateShare)
	}
	wants, filter, shared := m.topics, m.filter, false
	if m.mayShare() {
		if wants, shared = m.pages.wants(m); shared {
			filter = wants.Like()
		}
	}
	args := m.readArgs(cursors, limit, filter)
	var got *collected
	err := readOver(ctx, conn, readSQL, args, func(rows pgx.Rows) (err error) {
		got, err = m.collect(rows, wants, limit, args[0].([]int16), args[1].([]int64), args[2].([]int32))
		return err
	})
	if err != nil {
		return nil, err
	}
	if !shared {
		m.adapt(got)
	}

	w := &Window{Events: got.events, before: m.cursors, seenBefore: m.seen, cursors: m.cursors, bytes: got.bytes}
	w.full = len(got.cut) > 0 || got.lateCut != 0 || catchingUp || len(others) > 0
	if slices.ContainsFunc(m.cursors, func(c cursor) bool { return slices.Max(c.after) > got.head }) {
		return nil, outbox.ErrLogBehind // the cursors are older than what the read saw
	}
	next := advance(cursors, got.reading)
	w.moved = got.next != 0 || got.lateCut != 0 || catchingUp || shrunk(cursors, next)
	if got.lateCut != 0 && !catchingUp {
		if next, err = m.partLate(ctx, conn, next); err != nil {
			return nil, err
		}
	}
	if w.moved {
		w.cursors = append(slices.Clone(others), next...)
	}
	var seen *snapshot
	if !w.full && len(m.Full) == 0 {
		seen = &got.snapshot
	}
	m.stand(w, seen)
	if !catchingUp {
		clear(m.hot)
	}
	for _, lane := range got.cut {
		m.hot[lane] = true
	}
	w.Events = inOrder(w.Events)
	if shared {
		m.share(w, got, wants, asked)
	}
	return w, nil
}

// stand moves the member to the end of a window, whose read has seen the end of each lane as of a snapshot, or not.
func (m *Member) stand(w *Window, seen *snapshot) {
	m.cursors, m.seen = w.cursors, seen
	if seen != nil {
		m.cursors = joined(w.cursors)
	}
}

// share keeps what was read for others, too, and leaves in the window what is the member's.
func (m *Member) share(w *Window, got *collected, wants topic.Patterns, asked int) {
	if got.lateCut == 0 && !m.long && !w.Empty() {
		m.pages.add(&page{
			before: w.before, topics: wants, floor: m.floor, limit: asked, most: m.most,
			events: w.Events, bytes: w.bytes, cursors: w.cursors, moved: w.moved, full: w.full, seen: m.seen, cut: got.cut, first: m.first,
		})
	}
	w.Events, w.bytes = m.pick(w.Events)
	m.pages.moved(m)
}

// readOver runs a read in a transaction of its own, which has no transaction id at its start.
func readOver(ctx context.Context, conn naming.Conn, sql string, args []any, collect func(pgx.Rows) error) error {
	batch := &pgx.Batch{}
	batch.Queue("begin isolation level read committed")
	batch.Queue(readSetup)
	batch.Queue(sql, args...)
	batch.Queue("commit")
	results := conn.SendBatch(ctx, batch)
	defer results.Close()
	for range 2 {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	rows, err := results.Query()
	if err == nil {
		err = collect(rows)
	}
	if err == nil {
		err = results.Close()
	}
	return err
}

// PutBack undoes the last read, whose window nobody has begun to handle: the next one finds it again.
func (m *Member) PutBack(w *Window) {
	m.cursors, m.seen = w.before, w.seenBefore
	m.pages.moved(m)
}

// inOrder sorts events by id, and returns them. Each is moved once: it is too large to be swapped often.
func inOrder(events []Event) []Event {
	type place struct {
		id int64
		at int // where the event is that goes here; none once it is here
	}
	const none = -1
	places := make([]place, len(events))
	for i := range events {
		places[i] = place{events[i].ID, i}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.id, b.id) })
	for i := range places {
		if places[i].at == none || places[i].at == i {
			continue
		}
		first, to := events[i], i
		for places[to].at != i { // around the circle of those that go to each other's place
			from := places[to].at
			events[to], places[to].at = events[from], none
			to = from
		}
		events[to], places[to].at = first, none
	}
	return events
}

// shrunk reports whether some transaction is pending no longer.
func shrunk(before, after []cursor) bool {
	for i := range before {
		if !before[i].pending.equal(after[i].pending) {
			return true
		}
	}
	return false
}
