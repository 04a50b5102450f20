package engine

// A delivery has a copy of its event, so that it outlives the log's retention. Where very many of a subscription's are unfinished, further
// ones have none, so that an outage of one topic does not double the log: whoever needs the payload takes it from there. There are three
// rules:
//
//   - What is dead or skipped has a copy: it waits for a decision, for longer than the log is kept. The table has that as a constraint.
//   - Retention makes copies of what it is about to delete, and leaves what somebody else has locked: see [Trim].
//   - A delivery without a copy was there before its event could be deleted: it came in the transaction that moved the cursor past it.

// copiedSQL begins the look-up of what a delivery without a copy has in the log.
const copiedSQL = `select e.payload, e.headers from outbox.events e`

// makeCopiesSQL makes copies of events in a lane that are older than $1, for the first $3 deliveries that have none, by index
// deliveries_without_copy. It passes over those that are just being claimed, settled or decided: their events stay for now.
const makeCopiesSQL = `
with chosen as materialized (
    select array[d.subscription_id] as subscription_id, d.event_id -- as in deliveredSQL
    from outbox.deliveries d
    where d.payload is null and d.lane = $2 and d.published_at < clock_timestamp() - $1::interval
    order by d.event_id
    limit $3
    for update skip locked
)
update outbox.deliveries d
set payload = e.payload, headers = e.headers
from chosen c
join outbox.events e on e.lane = $2 and e.id = c.event_id
where d.subscription_id = any (c.subscription_id) and d.event_id = c.event_id and d.payload is null`

// What a delivery d has of its event, or the log. Where somebody has deleted it from both, that is null without headers.
const (
	PayloadSQL = `
case when d.payload is null
     then coalesce((select e.payload::json from outbox.events e where e.lane = d.lane and e.id = d.event_id), 'null'::json)
     else d.payload end`
	HeadersSQL = `
case when d.headers is null
     then coalesce((select e.headers::jsonb from outbox.events e where e.lane = d.lane and e.id = d.event_id), '{}'::jsonb)
     else d.headers end`
)

// KeepCopySQL makes the copy of a delivery d that is about to wait for a decision.
const KeepCopySQL = `payload = ` + PayloadSQL + `, headers = ` + HeadersSQL
