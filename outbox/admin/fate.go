package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/internal/uid"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Fate is what became of an event in one subscription.
type Fate string

// The fates of an event. Those of events with a [Delivery] are its [outbox.State], or FateBlocked.
const (
	FatePending   Fate = "pending"   // the subscription has yet to handle it, or does so right now
	FateDelivered Fate = "delivered" // it was handled, or discarded
	FateRetrying  Fate = "retrying"
	FateBlocked   Fate = "blocked" // retrying, behind an unfinished one of its key
	FateRunning   Fate = "running"
	FateDead      Fate = "dead"
	FateSkipped   Fate = "skipped"
	FateUnmatched Fate = "unmatched" // its topic is none of the subscription's, or was none when that came to it
	FateUnknown   Fate = "unknown"   // cursors have passed its id, but ids were handed out again or are from elsewhere: see [outbox.ErrLogBehind] and [outbox.ErrForeignCluster]
	FateEarlier   Fate = "earlier"   // it was published before the place in the log where the subscription began
)

// An EventFate is what became of an event in a subscription.
type EventFate struct {
	Subscription string    `json:"subscription"`
	Fate         Fate      `json:"fate"`
	Delivery     *Delivery `json:"delivery,omitempty"` // where it has one
}

// An EventDetails is an event with what became of it.
type EventDetails struct {
	Event outbox.Event `json:"event"`
	Lane  int16        `json:"lane"`
	Fates []EventFate  `json:"fates"` // by subscription, in the order of their names
	// Deleted is true when the log does not have the event any more, and only deliveries do. What became of it in
	// subscriptions without one is not known: they are not among Fates.
	Deleted bool `json:"deleted"`
}

// ErrUnknownEvent says that there is no event with an id: its transaction has not committed, or was rolled back, or the
// event was deleted because of its age.
var ErrUnknownEvent = errors.New("unknown event")

// There is no index on id alone, for which publishers would pay: one probe of events_lane_id for each lane.
const eventSQL = `
select e.id, e.lane, e.topic, coalesce(e.key, ''), e.payload, e.headers, e.published_at, e.xid::text::bigint, outbox.tag()
from generate_series(0, $2::integer - 1) as l (lane)
cross join lateral (select e.* from outbox.events e where e.lane = l.lane and e.id = $1 limit 1) e`

const fatesSQL = `
with cursors as materialized (` + engine.CursorsSQL + `
    where l.lane = $2
)
select s.name, s.topics, s.begins_after >= $1 as earlier,
       c.after_id < $1
       or $1 > (select max(k.floor) from outbox.cluster k) and (c.pending @> $3::bigint or c.late @> $3::bigint and c.late_after_id < $1)
       or exists (select from outbox.held_keys h
                  where h.subscription_id = s.id and h.lane = $2 and h.key = $4 and h.from_id <= $1) as pending,
       (select h.topics
        from outbox.topic_changes h
        where h.subscription_id = s.id and h.up_to >= $1
        order by h.up_to, h.at
        limit 1) as before,
       exists (select from outbox.topic_changes h where h.subscription_id = s.id and h.up_to >= $1 and h.backfilled_after < $1) as backfilled,
       coalesce(d.state, ''),
       d.state = 'retrying' and exists (
           select from outbox.deliveries b
           where b.subscription_id = d.subscription_id and b.lane = d.lane and b.key = d.key and b.event_id < d.event_id
             and (b.state in ('retrying', 'running') or b.stops_key)) as blocked
from outbox.subscriptions s
join cursors c on c.subscription_id = s.id
left join outbox.deliveries d on d.subscription_id = s.id and d.event_id = $1
order by s.name`

// A foundFate is what the tables have about an event in a subscription.
type foundFate struct {
	Name             string
	Topics           []string
	Earlier, Pending bool
	Before           []string // its topics when cursors came to the event; nil where they have not changed since
	Backfilled       bool
	State            Fate
	Blocked          *bool // nil without a delivery
}

// had reports whether a topic was one of the subscription's when it came to the event.
func (f *foundFate) had(name string) bool {
	now := topic.Patterns(f.Topics).Match(name)
	if f.Before == nil || f.Pending || f.Backfilled && now {
		return now
	}
	return topic.Patterns(f.Before).Match(name)
}

// GetEvent returns an event, and what became of it in every subscription. It returns ErrUnknownEvent where there is none, and
// outbox.ErrRowSecurity where this role is shown a part of the outbox only.
// Safe for concurrent use as far as db is.
func GetEvent(ctx context.Context, db outbox.DB, id int64) (*EventDetails, error) {
	var (
		row     = &EventDetails{Fates: []EventFate{}}
		e       = &row.Event
		headers []byte
		xid     int64
		tag     uint16
	)
	err := db.QueryRow(ctx, eventSQL, id, engine.Lanes).Scan(&e.ID, &row.Lane, &e.Topic, &e.Key, &e.Payload, &headers, &e.PublishedAt, &xid, &tag)
	if err == nil {
		e.UID = uid.Make(tag, e.ID, e.PublishedAt.UnixMicro())
		e.Headers = engine.ParseHeaders(headers)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		row.Deleted, err = true, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for event %d: %w", id, err)
	}
	fault := engine.CheckLog(ctx, db)
	broken := errors.Is(fault, outbox.ErrForeignCluster) || errors.Is(fault, outbox.ErrLogBehind)
	if fault != nil && !broken {
		return nil, fmt.Errorf("look for the fates of event %d: %w", id, fault)
	}
	rows, _ := db.Query(ctx, fatesSQL, id, row.Lane, xid, e.Key)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[foundFate])
	if err != nil {
		return nil, fmt.Errorf("look for the fates of event %d: %w", id, err)
	}
	for _, s := range list {
		f := EventFate{Subscription: s.Name, Fate: s.State}
		switch {
		case s.State != "":
			if s.Blocked != nil && *s.Blocked {
				f.Fate = FateBlocked
			}
			if f.Delivery, err = deliveryOf(ctx, db, s.Name, id); err != nil {
				return nil, err
			}
			if row.Deleted && f.Delivery != nil {
				row.Event = f.Delivery.Event
			}
		case row.Deleted:
			continue
		case s.Pending && topic.Patterns(s.Topics).Match(e.Topic):
			f.Fate = FatePending
		case !s.had(e.Topic):
			f.Fate = FateUnmatched
		case broken:
			f.Fate = FateUnknown // nothing was seen by its handler just because the cursor is beyond it
		case s.Earlier:
			f.Fate = FateEarlier
		default:
			f.Fate = FateDelivered
		}
		row.Fates = append(row.Fates, f)
	}
	if row.Event.ID == 0 {
		return nil, fmt.Errorf("%w: %d", ErrUnknownEvent, id)
	}
	return row, nil
}

// GetEventByUID is like [GetEvent], for an event's UID. It returns ErrUnknownEvent also where an event with the id in the UID has another
// UID, and ErrInvalidFilter for a text that is no UID.
func GetEventByUID(ctx context.Context, db outbox.DB, text string) (*EventDetails, error) {
	id, ok := uid.ID(text)
	if !ok {
		return nil, fmt.Errorf("%w: %q is not the UID of an event", ErrInvalidFilter, text)
	}
	row, err := GetEvent(ctx, db, id)
	if err != nil {
		return nil, err
	}
	if row.Event.UID != strings.ToLower(text) {
		return nil, fmt.Errorf("%w: %s; event %d is another one", ErrUnknownEvent, text, id)
	}
	return row, nil
}

// deliveryOf returns the delivery of an event, or nil if it has none any more.
func deliveryOf(ctx context.Context, db outbox.DB, subscription string, id int64) (*Delivery, error) {
	f := DeliveryFilter{Subscription: subscription, States: []outbox.State{outbox.Retrying, Blocked, outbox.Running, outbox.Dead, outbox.Skipped}, IDs: []int64{id}}
	list, _, err := f.rows(ctx, db)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}
