package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/storable"
	"github.com/signalbox-go/signalbox/internal/topic"
)

// An EventFilter chooses events of the log. Its fields narrow it down; those left out match everything.
type EventFilter struct {
	Topic        string          // a pattern
	Key          string          // Only its lane is read
	Since, Until time.Time       // when it was published: from Since on, and before Until
	MinID, MaxID int64           // ids, both included
	Payload      json.RawMessage // JSON that the payload contains, as PostgreSQL's @> has it: {"a": 1} is in {"a": 1, "b": 2}
}

// scanRows is how many events are looked at in one go, at most, to find those that match a filter.
const scanRows = 20_000

// untilSlack is how long a publishing statement may have been running when it took an id: of older ones, events may be
// missing at the end of a time range.
const untilSlack = time.Minute

// A scan goes through the events of an EventFilter by id.
type scan struct {
	filter EventFilter
	regex  string // of the topic; "" for any
	except string // topics that are not wanted; "" for none
	// The ids that it goes through: those above above, up to and with upTo.
	above, upTo int64
	// trimmed has, by lane, up to where there is nothing left but index entries.
	trimmed []int64
}

// newScan checks the filter, and turns its times into ids.
func newScan(ctx context.Context, tx pgx.Tx, f EventFilter) (*scan, error) {
	s := &scan{filter: f, above: f.MinID - 1}
	if f.Topic != "" {
		if fault := topic.PatternFault(f.Topic); fault != "" {
			return nil, fmt.Errorf("%w: topic %s", ErrInvalidFilter, fault)
		}
		s.regex = topic.Patterns{f.Topic}.Regex()
	}
	if len(f.Payload) > 0 && !storable.JSON(f.Payload) {
		return nil, fmt.Errorf("%w: payload is not JSON that PostgreSQL can store", ErrInvalidFilter)
	}
	if !storable.Text(f.Key) {
		return nil, fmt.Errorf("%w: key is not UTF-8 text without zero bytes", ErrInvalidFilter)
	}
	next, err := engine.NextID(ctx, tx)
	if err != nil {
		return nil, err
	}
	s.upTo = next - 1
	if f.MaxID > 0 {
		s.upTo = min(s.upTo, f.MaxID)
	}
	if !f.Since.IsZero() {
		first, err := engine.FirstSince(ctx, tx, f.Since)
		if err != nil {
			return nil, err
		}
		s.above = max(s.above, first-1)
	}
	if !f.Until.IsZero() {
		first, err := engine.FirstSince(ctx, tx, f.Until.Add(untilSlack))
		if err != nil {
			return nil, err
		}
		s.upTo = min(s.upTo, first-1)
	}
	err = tx.QueryRow(ctx, `select array_agg(t.up_to order by t.lane) from outbox.trimmed t`).Scan(&s.trimmed)
	return s, err
}

// sql returns a query for the first $3 events with ids after $1, which has one for each lane, and up to $2, and whether each is
// wanted. They come by id: one index scan of each lane, by events_lane_id, merged as they are read, so that whoever
// stops early has not looked at the rest. A key has one lane.
func (s *scan) sql(newest bool) string {
	order := ""
	if newest {
		order = " desc"
	}
	const arm = `
    (select e.id, e.xid, e.lane, e.topic, e.key, e.payload, e.headers, e.published_at
     from outbox.events e
     where e.lane = %[1]s and e.id > ($1::bigint[])[%[1]s + 1] and e.id <= $2::bigint
     order by e.id%[2]s)`
	var arms []string
	if s.filter.Key != "" {
		arms = append(arms, fmt.Sprintf(arm, "(hashtext($5::text) & 63)::smallint", order))
	} else {
		for lane := range engine.Lanes {
			arms = append(arms, fmt.Sprintf(arm, fmt.Sprintf("%d::smallint", lane), order))
		}
	}
	return `
    select e.*, row_number() over (order by e.id` + order + `) as place,
           ($4::text = '' or e.topic ~ $4::text) and ($5::text = '' or e.key = $5::text)
           and ($6::timestamptz is null or e.published_at >= $6::timestamptz) and ($7::timestamptz is null or e.published_at < $7::timestamptz)
           and ($8::jsonb is null or outbox.as_jsonb(e.payload) @> $8::jsonb) as wanted
    from (select * from (` + strings.Join(arms, " union all") + `
    ) e order by e.id` + order + `
    limit $3::integer) e`
}

// args are the parameters of sql for ids after above and up to upTo, followed by more.
func (s *scan) args(above, upTo int64, rows int, more ...any) []any {
	from := make([]int64, len(s.trimmed))
	for lane, trimmed := range s.trimmed {
		from[lane] = max(above, trimmed)
	}
	var payload *string
	if len(s.filter.Payload) > 0 {
		text := string(s.filter.Payload)
		payload = &text
	}
	return append([]any{from, upTo, rows, s.regex, s.filter.Key, optional(s.filter.Since), optional(s.filter.Until), payload}, more...)
}

// countSQL counts, among the first rows of a scan, those that are wanted and that the subscription $9 with the topics $10, but not $11, has
// passed.
func (s *scan) countSQL() string {
	return `
with cursors as materialized (` + engine.CursorsSQL + `
    where l.subscription_id = $9
), scanned as materialized (
    select s.id, s.wanted and s.topic ~ $10::text and ($11::text = '' or s.topic !~ $11::text) and ` + passedSQL + ` as wanted
    from (` + s.sql(false) + `) s
)
select count(*), count(*) filter (where s.wanted), coalesce(min(s.id), 0), coalesce(max(s.id), 0), (select max(c.after_id) from cursors c)
from scanned s`
}

// passedSQL is true when the subscription $9 has settled the event s: its cursor has passed it, and does not wait for its
// transaction, and its key is not held there.
const passedSQL = `
not exists (select from outbox.held_keys h where h.subscription_id = $9 and h.lane = s.lane and h.key = s.key and h.from_id <= s.id)
and exists (select from cursors c
        where c.lane = s.lane and s.id <= c.after_id
          and not (s.id > (select max(k.floor) from outbox.cluster k)
                   and (c.pending @> s.xid::text::bigint or c.late @> s.xid::text::bigint and s.id > c.late_after_id)))`

// count returns how many events of the scan a subscription has settled.
func (s *scan) count(ctx context.Context, tx pgx.Tx, of engine.Subscription) (n Estimate, err error) {
	var scanned, wanted, first, last, cursor int64
	err = tx.QueryRow(ctx, s.countSQL(), s.args(s.above, s.upTo, lagScan, of.ID, topic.Patterns(of.Topics).Regex(), s.except)...).
		Scan(&scanned, &wanted, &first, &last, &cursor)
	if err != nil {
		return n, err
	}
	n.Events = wanted
	if n.Estimated = scanned >= lagScan && last < min(cursor, s.upTo); n.Estimated {
		// As dense as in the ids that were looked at, also in those up to where the cursors are.
		n.Events = max(wanted, int64(float64(wanted)*float64(min(cursor, s.upTo)-first+1)/float64(last-first+1)))
	}
	return n, nil
}

// optional returns nil for no time.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
