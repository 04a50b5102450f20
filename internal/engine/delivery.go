package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/uid"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Delivery is one event's own row for one subscription: it failed, or waits behind one of its key that did.
type Delivery struct {
	Event   Event
	Attempt int  // attempts begun, this one included if Running
	Running bool // its row says so, and counts the attempt; first attempts are only noted in the member's row
	Suspect bool // its last worker died while it ran
	Gone    bool // it has no copy of its event, and the log has not got it any more: somebody has deleted it there

	// FailedAt is about when an attempt at it failed for the first time, counted or not, by the clock of that worker: of those since somebody decided to have it
	// tried again, if anybody did. Zero where none has.
	FailedAt time.Time
}

// A Line is what is unfinished of one key, in publish order, or of a lane's events without a key of one topic. Only the head of a
// key's line may run.
type Line struct {
	Lane  int16
	Key   string // empty for the events without one
	Topic string // of the events without a key; of a key's, that of the head, where it is one of those that were asked for
	Count int
	Again int           // how many of these somebody has retried, and have not been tried since
	Due   time.Duration // until the head, or the first without a key, may be tried again
	From  int64         // where the key is held from; 0 when it is not
	Old   bool          // whether what is held is old enough to be deleted
	Alone bool          // whether to claim one delivery, without what is behind it: it has failed, and may again
}

// Event is an event with the lane that it is in.
type Event struct {
	outbox.Event
	Lane int16
}

// linesSQL does not look at what is dead or skipped, however much that is: index deliveries_line has what is unfinished of keys,
// deliveries_due what is to be tried again of events without one, and deliveries_owner what runs of them. It needs no order, but
// asked for theirs, PostgreSQL uses these. Of keys, it tells the topic of the head if that is one of $3: a probe of the primary key for
// each of these lines that has several deliveries, and none where nothing is asked for.
const linesSQL = `
select l.lane, l.key,
       case when l.key = '' then l.topic
            when cardinality($3::text[]) = 0 then ''
            when l.count = 1 then case when l.some_topic = any ($3::text[]) then l.some_topic else '' end
            else coalesce((select h.topic from outbox.deliveries h
                           where h.subscription_id = $1 and h.event_id = l.head and h.topic = any ($3::text[])), '') end,
       l.count, l.again
from (
    select d.lane, coalesce(d.key, '') as key, d.topic, count(*) as count,
           count(*) filter (where d.decided_at is not null and d.attempt = 0) as again, min(d.event_id) as head, min(d.some_topic) as some_topic
    from (
        (select d.lane, d.key, null as topic, d.decided_at, d.attempt, d.event_id, d.topic as some_topic
         from outbox.deliveries d
         where d.subscription_id = $1 and d.key is not null and (d.state in ('retrying', 'running') or d.stops_key)
         order by d.lane, d.key)
        union all
        (select d.lane, d.key, d.topic, d.decided_at, d.attempt, d.event_id, d.topic
         from outbox.deliveries d
         where d.subscription_id = $1 and d.key is null and d.state = 'retrying'
         order by d.lane, d.topic)
        union all
        (select d.lane, d.key, d.topic, d.decided_at, d.attempt, d.event_id, d.topic
         from outbox.deliveries d
         where d.subscription_id + 0 = $1 and d.key is null and d.owner is not null) -- + 0: by index deliveries_owner, which has only those
    ) d
    where d.lane = any ($2::smallint[])
    group by d.lane, d.key, d.topic
) l`

// withHolds adds holds to the lines of their keys, which may have no delivery at all.
func withHolds(lines []Line, holds []heldLine) []Line {
	at := make(map[Hold]int, len(lines))
	for i, l := range lines {
		at[Hold{Lane: l.Lane, Key: l.Key}] = i
	}
	for _, h := range holds {
		if i, ok := at[Hold{Lane: h.Lane, Key: h.Key}]; ok {
			lines[i].From, lines[i].Old = h.From, h.Old
		} else {
			lines = append(lines, Line{Lane: h.Lane, Key: h.Key, From: h.From, Old: h.Old})
		}
	}
	return lines
}

// Lines returns what is unfinished in lanes that the member has just claimed, held keys among it. Their Due is not looked up: it is
// zero. Old is about events older than keep; topics are those that are told of the heads of keys.
func (m *Member) Lines(ctx context.Context, lanes []int16, keep time.Duration, topics ...string) (lines []Line, err error) {
	batch := &pgx.Batch{}
	batch.Queue("begin isolation level read committed")
	batch.Queue(claimSetup)
	batch.Queue(linesSQL, m.subscription, lanes, append([]string{}, topics...)).Query(func(rows pgx.Rows) (err error) {
		lines, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Line, err error) {
			err = row.Scan(&l.Lane, &l.Key, &l.Topic, &l.Count, &l.Again)
			return l, err
		})
		return err
	})
	var holds []heldLine
	batch.Queue(heldSQL, m.subscription, lanes, interval(keep)).Query(func(rows pgx.Rows) (err error) {
		holds, err = pgx.CollectRows(rows, pgx.RowToStructByPos[heldLine])
		return err
	})
	batch.Queue("commit")
	if err := m.conns.Wait(ctx, func(conn naming.Conn) error { return send(ctx, conn, batch) }); err != nil {
		return nil, fmt.Errorf("load unfinished deliveries: %w", err)
	}
	return withHolds(lines, holds), nil
}

// suspectBytes bounds what a claim takes of those whose worker died while they ran.
const suspectBytes = 1 << 20

// deliveryBytes is about what a delivery d is long, for the memory of its worker. A claim measures all that are ready, so only what is
// compressed is read for it: what is stored beside its row, uncompressed, tells its size without. So does the log, where a delivery has no
// copy.
const deliveryBytes = `
       case when d.payload is null
            then coalesce((select case when pg_column_compression(e.payload) is null and pg_column_compression(e.headers) is null
                                       then pg_column_size(e.payload) + pg_column_size(e.headers)
                                       else octet_length(e.payload::text) + octet_length(e.headers::text) end
                           from outbox.events e
                           where e.lane = d.lane and e.id = d.event_id), 0)
            when pg_column_compression(d.payload) is null and pg_column_compression(d.headers) is null
            then pg_column_size(d.payload) + pg_column_size(d.headers)
            else octet_length(d.payload::text) + octet_length(d.headers::text) end`

// claimDueSQL takes deliveries that may run now: of each key the head, and those behind it that were never tried, up to
// a run; of those without a key, the first that are due. Index deliveries_line has a key's line in order, and
// deliveries_due those without one, so the cost is that of what is returned, whatever waits behind.
//
// Its plan may be from when there was no delivery at all: they come and go by tens of thousands within seconds. So each table has
// one way only to be read, with claimSetup. A key is a range to be ordered by: with an equation the primary key, which has all of
// the subscription's events in order, would look as good as deliveries_line. For the arrays see deliveredSQL.
//
// Those without a copy of their event get it from the log, by index events_lane_id.
//
// It takes no more than a window's bytes, and one row at least. Their length is that of their text, as they are sent and kept: what
// is compressed may be a thousand times longer than its row.
//
// Of those whose worker died while they ran, it takes few at a time: should one kill this worker too, it costs few others an attempt.
// Their bytes count by themselves: others do not keep them waiting.
//
// A second and later attempt is counted here, before its handler starts, so that one which kills its process counts. First
// attempts are only noted in the member's row, all in one: nobody else works the lane, and should this worker die, they
// become suspects. A bulk retry, and what waited behind its key, is then read and deleted, and not written in between.
const claimDueSQL = `
with busy as materialized ( -- keys of which one runs already: it may be behind one that was retried by hand
    select d.lane, d.key
    from outbox.deliveries d
    where d.owner is not null and d.subscription_id + 0 = $2 and d.key is not null -- + 0: by index deliveries_owner, which has only those
), runnable as materialized (
    select r.*
    from unnest($3::smallint[], $4::text[], $12::boolean[]) as k (lane, key, alone)
    cross join lateral (
        select d.event_id, d.attempt, d.suspect, d.size, d.tried_head,
               bool_and(d.state = 'retrying' and d.due_at <= clock_timestamp()
                        and (d.place = 1 or d.attempt = 0 and not d.suspect and not d.suspect_head))
                   over (order by d.key, d.event_id) as ready
        from (select d.*, row_number() over line as place, first_value(d.suspect) over line as suspect_head,
                     first_value(case when d.attempt > 0 then d.event_id end) over line as tried_head
              from (select d.key, d.event_id, d.state, d.due_at, d.attempt, d.suspect, ` + deliveryBytes + ` as size
                    from outbox.deliveries d
                    where d.subscription_id = $2 and d.lane = k.lane and d.key between k.key and k.key
                      and (d.state in ('retrying', 'running') or d.stops_key)
                    order by d.key, d.event_id
                    limit case when k.alone then 1 else $5 end) d -- before anything looks at all of them
              window line as (order by d.key, d.event_id)) d
    ) r
    where k.key <> '' and r.ready
      and not exists (select from busy b where b.lane = k.lane and b.key = k.key)
    union all
    select r.*, true
    from unnest($3::smallint[], $4::text[], $12::boolean[], $13::text[]) as k (lane, key, alone, topic)
    cross join lateral (
        select d.event_id, d.attempt, d.suspect, ` + deliveryBytes + `, null::bigint
        from outbox.deliveries d
        where d.subscription_id = $2 and d.lane = k.lane and d.key is null and d.state = 'retrying' and d.topic = k.topic
          and d.due_at <= clock_timestamp() and d.event_id <> all ($11::bigint[])
        order by d.due_at
        limit case when k.alone then 1 else $5 end
    ) r
    where k.key = ''
), ready as materialized ( -- as many as fit, by id: of each key the first ones
    select r.*
    from (select r.*, sum(r.size) over (order by r.event_id) - r.size as before from runnable r where not r.suspect) r
    where r.before < $9
), chosen as materialized (
    select array[$2::integer] as subscription_id, r.event_id from ready r where r.attempt > 0
    union all
    select array[$2], s.event_id
    from (select r.event_id, r.attempt, row_number() over line as place, sum(r.size) over line - r.size as before
          from runnable r
          where r.suspect
          window line as (order by r.attempt >= $6, r.event_id)) s
    where s.attempt < $6 and s.place <= $7 and s.before < $10 or s.place = 1 and s.attempt >= $6 and $8
), locked as materialized (
    select c.subscription_id, c.event_id
    from chosen c
    join outbox.deliveries d on d.subscription_id = any (c.subscription_id) and d.event_id = c.event_id
    where d.state = 'retrying'
    for update of d skip locked
), firsts as materialized ( -- what is behind a head that somebody decides about right now waits for that
    select array[$2::integer] as subscription_id, r.event_id
    from ready r
    where r.attempt = 0 and (r.tried_head is null or r.tried_head in (select l.event_id from locked l))
), noted as (
    update outbox.members m
    set trying = $11::bigint[] || (select coalesce(array_agg(f.event_id), '{}') from firsts f)
    where m.worker_id = $1 and m.subscription_id = $2 and (m.trying <> '{}' or exists (select from firsts))
), counted as (
    update outbox.deliveries d
    set state = 'running', owner = $1, attempt = d.attempt + 1
    from locked l
    where d.subscription_id = any (l.subscription_id) and d.event_id = l.event_id
    returning d.event_id, d.lane, d.topic, d.key, d.payload, d.headers, d.published_at, d.attempt, d.suspect, true as running, d.errors, d.decided_at
)
select c.event_id, c.lane, c.topic, coalesce(c.key, ''), coalesce(c.payload, e.payload), coalesce(c.headers, e.headers), c.published_at,
       c.attempt, c.suspect, c.running, c.errors -> 0 ->> 'at', c.errors -> -1 ->> 'at', c.decided_at
from counted c
left join lateral (` + copiedSQL + ` where c.payload is null and e.lane = c.lane and e.id = c.event_id) e on true
union all
select d.event_id, d.lane, d.topic, coalesce(d.key, ''), coalesce(d.payload, e.payload), coalesce(d.headers, e.headers), d.published_at,
       d.attempt, d.suspect, false, d.errors -> 0 ->> 'at', d.errors -> -1 ->> 'at', d.decided_at
from firsts f
join outbox.deliveries d on d.subscription_id = any (f.subscription_id) and d.event_id = f.event_id
left join lateral (` + copiedSQL + ` where d.payload is null and e.lane = d.lane and e.id = d.event_id) e on true`

// claimSetup is readSetup, and keeps the planner from sorting what an index has in order.
const claimSetup = readSetup + `, set_config('enable_sort', 'off', true)`

// waitingSQL returns for each line when to look again and how much is left of it, as far as a claim looks and one more, or nothing
// where nothing is left. What runs elsewhere, parked by the lane's owner before, is looked at again once a second, and so is a head
// that stops its key: nobody tells that such an event has failed, or that its worker has died.
const waitingSQL = `
with elsewhere as materialized ( -- lanes with events without a key that others run, and their topics
    select distinct d.lane, d.topic
    from outbox.deliveries d
    where d.owner is not null and d.owner <> $4 and d.subscription_id + 0 = $1 and d.key is null -- + 0: by index deliveries_owner, which has only those
)
select k.lane, k.key, k.topic, min(r.due), count(*)
from unnest($2::smallint[], $3::text[], $7::text[]) as k (lane, key, topic)
cross join lateral (
    (select case when row_number() over (order by d.key, d.event_id) > 1 then null
                 when d.state = 'retrying' then d.due_at - clock_timestamp()
                 else interval '1s' end as due
     from (select d.key, d.event_id, d.state, d.due_at
           from outbox.deliveries d
           where k.key <> '' and d.subscription_id = $1 and d.lane = k.lane and d.key between k.key and k.key
             and (d.state in ('retrying', 'running') or d.stops_key)
           order by d.key, d.event_id
           limit $5 + 1) d)
    union all
    (select d.due_at - clock_timestamp()
     from outbox.deliveries d
     where k.key = '' and d.subscription_id = $1 and d.lane = k.lane and d.key is null and d.state = 'retrying' and d.topic = k.topic
       and d.event_id <> all ($6::bigint[])
     order by d.due_at
     limit $5 + 1)
    union all
    select interval '1s' from elsewhere e where k.key = '' and e.lane = k.lane and e.topic = k.topic
) r
group by k.lane, k.key, k.topic`

// Suspects limits how many deliveries may be claimed of those whose worker died while they ran.
type Suspects struct {
	Together int  // those of which fewer attempts than this were begun may run beside others,
	Limit    int  // but no more than so many
	Alone    bool // if there are none of those, whether one of the rest may run
}

// ClaimDue takes what may run now of the given lines, up to limit of each, and about a window's bytes; suspects limits it further. It returns those
// deliveries, sorted by id, and for each line that still has something to wait for a Line with its Due, and a Count that stops
// at one more than the limit. What was claimed must be settled before the next claim, or be Running by then, or be in trying, whose
// keys are none of the lines'.
func (m *Member) ClaimDue(ctx context.Context, lines []Line, limit int, suspects Suspects, trying []int64) (due []Delivery, waiting []Line, err error) {
	if len(lines) == 0 {
		return nil, nil, nil
	}
	if trying == nil {
		trying = []int64{}
	}
	lanes, keys, topics, alone := make([]int16, len(lines)), make([]string, len(lines)), make([]string, len(lines)), make([]bool, len(lines))
	for i, l := range lines {
		lanes[i], keys[i], topics[i], alone[i] = l.Lane, l.Key, l.Topic, l.Alone
	}
	err = m.inTx(ctx, m.conns.Wait, func(batch *pgx.Batch) {
		batch.Queue(claimSetup)
		batch.Queue(claimDueSQL, m.worker, m.subscription, lanes, keys, limit, suspects.Together, suspects.Limit, suspects.Alone, m.most, suspectBytes, trying, alone, topics).Query(func(rows pgx.Rows) (err error) {
			due, err = pgx.CollectRows(rows, m.scanDelivery)
			return err
		})
		batch.Queue(waitingSQL, m.subscription, lanes, keys, m.worker, limit, trying, topics).Query(func(rows pgx.Rows) (err error) {
			waiting, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Line, err error) {
				err = row.Scan(&l.Lane, &l.Key, &l.Topic, &l.Due, &l.Count)
				return l, err
			})
			return err
		})
	})
	if err != nil {
		return nil, nil, fmt.Errorf("claim deliveries: %w", err)
	}
	slices.SortFunc(due, func(a, b Delivery) int { return cmp.Compare(a.Event.ID, b.Event.ID) })
	return due, waiting, nil
}

// failedAt is when an error says that it was. It is text in the row: one that says something else is as good as none.
func failedAt(text *string) (at time.Time) {
	if text != nil {
		at, _ = time.Parse(time.RFC3339Nano, *text)
	}
	return at
}

func (m *Member) scanDelivery(row pgx.CollectableRow) (Delivery, error) {
	var (
		d       Delivery
		headers []byte

		first, last *string // errors
		decided     *time.Time
	)
	e := &d.Event
	err := row.Scan(&e.ID, &e.Lane, &e.Topic, &e.Key, (*[]byte)(&e.Payload), &headers, &e.PublishedAt, &d.Attempt, &d.Suspect, &d.Running, &first, &last, &decided)
	d.Gone = e.Payload == nil
	if d.FailedAt = failedAt(first); decided != nil && d.FailedAt.Before(*decided) {
		if d.FailedAt = failedAt(last); !d.FailedAt.After(*decided) {
			d.FailedAt = time.Time{}
		}
	}
	e.Headers = ParseHeaders(headers)
	e.UID = uid.Make(m.tag, e.ID, e.PublishedAt.UnixMicro())
	return d, err
}
