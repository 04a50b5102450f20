package outbox

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5"
)

// A Window is a run of events that was read from lanes in one go, sorted by id.
type Window struct {
	// Events are those that match the subscription's topics.
	Events []Event

	before  []cursor // where the lanes stood
	cursors []cursor // where they stand once all of Events are handled
	moved   bool     // whether that is somewhere else than before
	full    bool     // whether there may be more to read at once
}

// Empty reports whether the read found nothing: neither an event nor a cursor to move.
func (w *Window) Empty() bool { return len(w.Events) == 0 && !w.moved }

// More reports whether the window was cut, so that another read would find more.
func (w *Window) More() bool { return w.full }

// filterSample is how many rows a window needs to tell whether most of them match, so that filtering them in the
// database would cost more than it saves.
const filterSample = 64

// windowBytes bounds the memory of one window: beyond, rows that arrive are left for the next read.
const windowBytes = 16 << 20

// readSetup keeps the planner from doing anything but probing the two indexes: on a table without statistics, or one
// that grew since the plan was made, it may prefer to scan it all. JIT would compile for the costs of what is disabled.
// One statement, sent along with the read: behind a pooling proxy nothing must be left behind in the session.
const readSetup = `
select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), set_config('enable_sort', 'off', true),
       set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true),
       set_config('plan_cache_mode', 'force_generic_plan', true)`

// readSQL returns, in this order: one row about the read itself, late events, new rows.
//
// The plan is pinned by TestReadPlan: late events by index events_xid_id, one probe for each ended transaction that was
// pending; new rows by index events_lane_id, one scan for each lane that ends at its limit. Two things matter:
//   - Running transactions are filtered before the probe, or it would walk their invisible rows, a million at times.
//   - Lanes and ids of late events are compared after the probe. As a join, the planner would scan all below a cursor.
//
// Topics are filtered here, and cursors pass what does not match. The rows looked at count against the window, so a
// subscription to a rare topic does not scan a week of the log in one statement: a row that is not wanted comes as a
// bare id.
//
// The transaction id is assigned after the statement's snapshot was taken and after head was read: it is in the select
// list, and its condition needs head. Where no lane can have moved, none is assigned.
const readSQL = `
with head as materialized (
    select coalesce((select s.last_value from outbox.events_id_seq s where s.is_called), 0) as id,
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
(select 1::smallint, e.id, e.lane, e.topic, e.key, e.payload, e.headers, e.published_at
 from late e
 join lanes l on l.lane = e.lane and e.id <= l.after_id
 where ($13::text[] is null or e.topic like any ($13::text[]))
   and exists (select from pending p
               where p.part = l.part and e.xid >= p.from_xid and e.xid < p.to_xid and e.id > p.late_after_id)
 order by e.id)
union all
select 2::smallint, e.id, l.lane, case when e.wanted then e.topic end, case when e.wanted then e.key end,
       case when e.wanted then e.payload end, case when e.wanted then e.headers end, e.published_at
from lanes l
cross join lateral (
    select e.id, e.topic, e.key, e.payload, e.headers, e.published_at,
           ($13::text[] is null or e.topic like any ($13::text[])) as wanted
    from outbox.events e
    where e.lane = l.lane and e.id > l.after_id
    order by e.id
    limit l.take
) e`

// readArgs are the parameters of readSQL.
func (m *Member) readArgs(limit int) []any {
	var (
		lanes          []int16
		after          []int64
		take           []int32
		parts          []int16
		spanParts      []int16
		from, to, late []int64
		maxAfter       int64
		minAfter       int64 = math.MaxInt64
		catchingUp           = catchingUp(m.cursors)
	)
	hot := 0
	for _, c := range m.cursors {
		for _, lane := range c.lanes {
			if m.hot[lane] {
				hot++
			}
		}
	}
	total := m.owned()
	for part, c := range m.cursors {
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
			case catchingUp || m.Held[lane]:
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
	return []any{
		lanes, after, take, parts, spanParts, from, to, late,
		m.floor, maxAfter, int32(limit), minAfter, m.filter,
	}
}

// Read returns the next window: about limit events at most, fewer where they are large. It covers all lanes that the
// member owns, and continues where the last read ended, whether or not that one was settled.
//
// Any error leaves the connection unusable for this member: what was read over it must not be settled.
func (m *Member) Read(ctx context.Context, limit int) (*Window, error) {
	limit = max(1, min(limit, m.byteLimit()))
	args := m.readArgs(limit)
	catchingUp := catchingUp(m.cursors)

	// In a transaction of its own, which has no transaction id at its start.
	batch := &pgx.Batch{}
	batch.Queue("begin isolation level read committed")
	batch.Queue(readSetup)
	batch.Queue(readSQL, args...)
	batch.Queue("commit")
	results := m.conn.SendBatch(ctx, batch)
	defer results.Close()
	for range 2 {
		if _, err := results.Exec(); err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
	}
	rows, err := results.Query()
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	got, err := m.collect(rows, args[0].([]int16), args[1].([]int64), args[2].([]int32))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if err := results.Close(); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}

	w := &Window{Events: got.events, before: m.cursors, cursors: m.cursors}
	w.full = len(got.cut) > 0 || got.lateCut != 0 || catchingUp
	next := advance(m.cursors, got.reading)
	w.moved = got.next != 0 || got.lateCut != 0 || catchingUp || shrunk(m.cursors, next)
	if w.moved {
		w.cursors = next
	}
	m.cursors = w.cursors
	clear(m.hot)
	for _, lane := range got.cut {
		m.hot[lane] = true
	}
	w.Events = inOrder(w.Events)
	return w, nil
}

// PutBack undoes the last read, whose window nobody has begun to handle: the next one finds it again.
func (m *Member) PutBack(w *Window) { m.cursors = w.before }

// inOrder returns the events sorted by id. Not their slice itself is sorted: an event is too large to be swapped often.
func inOrder(events []Event) []Event {
	type place struct {
		id int64
		at int
	}
	places := make([]place, len(events))
	for i := range events {
		places[i] = place{events[i].ID, i}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.id, b.id) })
	sorted := make([]Event, len(events))
	for i, p := range places {
		sorted[i] = events[p.at]
	}
	return sorted
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

// collected is what one read statement returned.
type collected struct {
	reading
	events []Event
	cut    []int16 // lanes that may have more to read at once
}

// errUnclean says that the read's transaction id may be older than its snapshot, which would lose events.
var errUnclean = errors.New("the transaction of the read has written before")

// collect takes the rows of readSQL, in the order in which they come.
func (m *Member) collect(rows pgx.Rows, lanes []int16, after []int64, take []int32) (*collected, error) {
	defer rows.Close()
	got := &collected{reading: reading{stopped: map[int16]int64{}}, events: make([]Event, 0, m.lastCount)}
	var (
		arena  arena
		bytes  int
		count  int
		looked int
		full   bool // the window has all the bytes it may have
		topic  string
		wanted bool         // whether topic matches: LIKE lets a little more pass
		last   [Lanes]int64 // id of the last row taken of each lane
		taken  [Lanes]int32
		missed [Lanes]bool // rows came that were not taken
	)
	for rows.Next() {
		raw := rows.RawValues()
		kind, id, lane := raw[0][1], int64(binary.BigEndian.Uint64(raw[1])), int16(binary.BigEndian.Uint16(raw[2]))
		if kind == 0 {
			if err := got.readMeta(raw, id); err != nil {
				return nil, err
			}
			continue
		}
		full = full || bytes > windowBytes
		looked++
		if kind == 1 {
			if got.lateCut != 0 && id >= got.lateCut {
				continue // beyond the cut there may be others that were not read
			}
			if full {
				got.lateCut = id // from here on
				continue
			}
		} else {
			if full || got.lateCut != 0 {
				missed[lane] = true
				continue
			}
			last[lane] = id
			taken[lane]++
			if raw[3] == nil {
				continue
			}
		}
		if string(raw[3]) != topic {
			topic = string(raw[3])
			wanted = m.topics.match(topic)
		}
		if !wanted {
			continue
		}
		published := int64(binary.BigEndian.Uint64(raw[7])) + microsecondsTo2000
		e := Event{
			ID: id, Topic: topic, Key: arena.text(raw[4]), Payload: arena.bytes(raw[5]),
			PublishedAt: time.UnixMicro(published).UTC(), lane: lane,
		}
		e.Headers = parseHeaders(raw[6])
		count++
		bytes += len(raw[3]) + len(raw[4]) + len(raw[5]) + len(raw[6]) + 64
		got.events = append(got.events, e)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if got.lateCut != 0 {
		got.lateCut-- // exclusive so far
	}
	if count > 0 {
		m.eventBytes = (m.eventBytes + bytes/count) / 2
	}
	m.lastCount = count
	if looked >= filterSample {
		m.filter = nil
		if count < looked/2 {
			m.filter = m.topics.like()
		}
	}
	for i, lane := range lanes {
		switch {
		case take[i] == 0: // held: it stays where it is, however far the others get
			got.stopped[lane] = after[i]
		case missed[lane], taken[lane] >= take[i]:
			got.stopped[lane] = max(after[i], last[lane])
			got.cut = append(got.cut, lane)
		}
	}
	return got, nil
}

// readMeta takes the row about the read itself. It borrows the columns of the events.
func (r *reading) readMeta(raw [][]byte, head int64) (err error) {
	if raw[6] == nil {
		return errUnclean
	}
	r.head = head
	if r.snapshot, err = parseSnapshot(string(raw[3])); err != nil {
		return err
	}
	if raw[4] != nil {
		if r.next, err = strconv.ParseInt(string(raw[4]), 10, 64); err != nil {
			return fmt.Errorf("parse transaction id: %w", err)
		}
	}
	if raw[5] != nil { // the first late event beyond the window
		if r.lateCut, err = strconv.ParseInt(string(raw[5]), 10, 64); err != nil {
			return fmt.Errorf("parse late cut: %w", err)
		}
	}
	return nil
}

// byteLimit is how many events of the recent size fit in a window.
func (m *Member) byteLimit() int { return windowBytes / max(1, m.eventBytes) }

// PostgreSQL counts microseconds from the year 2000.
const microsecondsTo2000 = 946684800 * 1e6

// parseHeaders accepts what SQL publishers may have put there: values that are no strings become their JSON text. Nested ten
// thousand deep, which PostgreSQL takes and encoding/json does not, they all become one, without a name: an event that no
// reader takes would stop its lane. Of none it makes nil.
func parseHeaders(raw []byte) map[string]string {
	if len(raw) <= len("{}") {
		return nil
	}
	var values map[string]json.RawMessage
	if json.Unmarshal(raw, &values) != nil {
		return map[string]string{"": string(raw)}
	}
	headers := make(map[string]string, len(values))
	for name, value := range values {
		var text string
		if json.Unmarshal(value, &text) != nil {
			text = string(value)
		}
		headers[name] = text
	}
	return headers
}

// An arena holds the bytes of a window's events in a few large pieces: an allocation for each would cost more than
// reading it. Pieces are never reused, so an event may outlive its window.
type arena struct{ free []byte }

func (a *arena) bytes(b []byte) []byte {
	const piece = 256 << 10
	if len(b) > cap(a.free)-len(a.free) {
		if len(b) > piece/4 {
			return slices.Clone(b)
		}
		a.free = make([]byte, 0, piece)
	}
	start := len(a.free)
	a.free = append(a.free, b...)
	return a.free[start:len(a.free):len(a.free)]
}

func (a *arena) text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	kept := a.bytes(b)
	return unsafe.String(&kept[0], len(kept)) // nobody else has these bytes
}
