package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/uid"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Delivery is a delivery with its history.
type Delivery struct {
	Event     outbox.Event `json:"event"`
	State     outbox.State `json:"state"`
	StopsKey  bool         `json:"stops_key"` // the events of its key wait for a decision
	Attempt   int          `json:"attempt"`   // attempts begun
	DueAt     time.Time    `json:"due_at"`    // when the next one may begin
	Failures  []Failure    `json:"failures"`  // one for each attempt that ended, the last one last
	CreatedAt time.Time    `json:"created_at"`
}

// A Failure is a failed attempt, which is recorded in its delivery. In an outage, several have the same number: such attempts do not count.
type Failure struct {
	Attempt int       `json:"attempt"` // number of the attempt, from 1
	At      time.Time `json:"at"`      // when it ended, by the worker's clock
	Worker  string    `json:"worker"`  // Config.Name of the worker
	Error   string    `json:"error"`
}

// ListDeliveries returns a page of the deliveries that match, by rising id of their events. It looks at no more than 20,000 deliveries in
// the states of the filter, and returns about PageBytes at most: where few of those match, the page is short, and Next says where to go
// on. So it takes some milliseconds, however many there are; only to find those that are retrying or blocked, it passes all deliveries of
// the subscription. It returns ErrUnknownSubscription for an unknown subscription, and ErrInvalidFilter for an invalid filter or option.
// Safe for concurrent use as far as db is.
func ListDeliveries(ctx context.Context, db outbox.Database, f DeliveryFilter, o ListOptions) (*Page[Delivery], error) {
	after, err := o.check()
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	page := &Page[Delivery]{Items: []Delivery{}}
	err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		ids, next, err := f.search(ctx, tx, after, o.Limit)
		if err != nil {
			return err
		}
		page.Next = cursorAt(next)
		if len(ids) == 0 {
			return checkKnown(ctx, tx, f.Subscription)
		}
		f.IDs = ids
		rows, all, err := f.rows(ctx, tx)
		if err == nil && !all { // their bytes ended the page
			page.Next = cursorAt(rows[len(rows)-1].Event.ID)
		}
		page.Items = append(page.Items, rows...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list deliveries of %q: %w", f.Subscription, err)
	}
	return page, nil
}

// search returns the ids of the first deliveries after one that match, up to limit, and where to go on: 0 at the end.
func (f DeliveryFilter) search(ctx context.Context, tx pgx.Tx, after int64, limit int) (ids []int64, next int64, err error) {
	args, err := f.args(after, scanRows, limit+1) // one more tells whether there are more
	if err != nil {
		return nil, 0, err
	}
	var (
		id     int64
		wanted bool
		place  int
	)
	rows, _ := tx.Query(ctx, f.searchSQL(), args...)
	_, err = pgx.ForEachRow(rows, []any{&id, &wanted, &place}, func() error {
		if wanted {
			ids = append(ids, id)
		}
		if place == scanRows {
			next = id
		}
		return nil
	})
	if len(ids) > limit {
		ids, next = ids[:limit], ids[limit-1]
	}
	return ids, next, err
}

// searchSQL goes through the deliveries of the filter's states by id, and stops where it has enough.
func (f DeliveryFilter) searchSQL() string {
	return `
select l.event_id, l.wanted, l.place
from (select d.event_id, coalesce((` + f.where() + `), false) as wanted, row_number() over (order by d.event_id) as place
      from ` + f.candidates() + ` and d.event_id > $9
      order by d.event_id
      limit $10::integer) l
where l.wanted or l.place = $10::integer
order by l.event_id
limit $11`
}

// candidates are the deliveries that may match, as the planner reaches them by an index. It is to see which one has them, so states are named:
// deliveries_decide those that are dead or skipped, deliveries_owner those that run. Else it is deliveries_pkey. Of ids, each is one probe of
// that: as "any", it would go through all deliveries in their order.
func (f DeliveryFilter) candidates() string {
	const subscription = ` = (select s.id from outbox.subscriptions s where s.name = $1)`
	if len(f.IDs) > 0 {
		return `
    (select distinct u.id from unnest($3::bigint[]) as u (id)) u
    cross join lateral (select d.* from outbox.deliveries d where d.subscription_id` + subscription + ` and d.event_id = u.id limit 1) d
    where true`
	}
	states := ` and d.state in ('` + strings.Join(f.stored(), "', '") + `')`
	if slices.Equal(f.States, []outbox.State{outbox.Running}) {
		return `outbox.deliveries d where d.owner is not null and d.subscription_id + 0` + subscription + states // + 0: not by deliveries_pkey
	}
	return `outbox.deliveries d where d.subscription_id` + subscription + states
}

// rows returns the deliveries that match, by id, and whether these are all: those that begin beyond PageBytes are not read. Use it
// with IDs.
func (f DeliveryFilter) rows(ctx context.Context, db outbox.DB) (list []Delivery, all bool, err error) {
	args, err := f.args(PageBytes)
	if err != nil {
		return nil, false, err
	}
	rows, _ := db.Query(ctx, f.rowsSQL(), args...)
	var found int
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d Delivery, err error) {
		var (
			headers []byte
			tag     uint16
		)
		e := &d.Event
		err = row.Scan(&e.ID, &e.Topic, &e.Key, (*[]byte)(&e.Payload), &headers, &e.PublishedAt,
			&d.State, &d.StopsKey, &d.Attempt, &d.DueAt, &d.Failures, &d.CreatedAt, &found, &tag)
		e.Headers = engine.ParseHeaders(headers)
		e.UID = uid.Make(tag, e.ID, e.PublishedAt.UnixMicro())
		return d, err
	})
	return list, found == len(list), err
}

func (f DeliveryFilter) rowsSQL() string {
	return `
select d.event_id, d.topic, coalesce(d.key, ''), d.wanted_payload, d.wanted_headers, d.published_at,
       d.state, d.stops_key, d.attempt, d.due_at, d.errors, d.created_at, d.found, outbox.tag()
from (select d.*, count(*) over () as found,
             sum(octet_length(d.wanted_payload::text) + octet_length(d.wanted_headers::text) + octet_length(d.errors::text))
                 over (order by d.event_id rows between unbounded preceding and 1 preceding) as before
      from (select d.*, ` + engine.PayloadSQL + ` as wanted_payload, ` + engine.HeadersSQL + ` as wanted_headers
            from ` + f.candidates() + ` and ` + f.where() + `) d) d
where coalesce(d.before, 0) < $9
order by d.event_id`
}

// CountDeliveries returns how many deliveries match: what a decision would change. It returns ErrUnknownSubscription for an unknown
// subscription, and ErrInvalidFilter for an invalid filter. Safe for concurrent use as far as db is.
func CountDeliveries(ctx context.Context, db outbox.DB, f DeliveryFilter) (int64, error) {
	args, err := f.args()
	if err != nil {
		return 0, err
	}
	var (
		n     int64
		known bool
	)
	err = db.QueryRow(ctx, `select count(*), `+knownSQL+` from outbox.deliveries d where `+f.where(), args...).Scan(&n, &known)
	if err == nil && !known {
		err = outbox.ErrUnknownSubscription
	}
	if err != nil {
		return 0, fmt.Errorf("count deliveries of %q: %w", f.Subscription, err)
	}
	return n, nil
}

// CountDeliveriesUpTo counts the deliveries that match, and stops at limit, which is at least 1. Otherwise it is like
// [CountDeliveries].
func CountDeliveriesUpTo(ctx context.Context, db outbox.DB, f DeliveryFilter, limit int64) (int64, error) {
	if err := checkUpTo(limit); err != nil {
		return 0, fmt.Errorf("count deliveries: %w", err)
	}
	args, err := f.args(limit)
	if err != nil {
		return 0, err
	}
	var n int64
	err = db.QueryRow(ctx, `
		select count(*) from (select from outbox.deliveries d where `+f.where()+` limit $9) d`, args...).Scan(&n)
	if err == nil && n == 0 {
		err = checkKnown(ctx, db, f.Subscription)
	}
	if err != nil {
		return 0, fmt.Errorf("count deliveries of %q: %w", f.Subscription, err)
	}
	return n, nil
}

// checkUpTo refuses the limit of a function that would then do nothing.
func checkUpTo(limit int64) error {
	if limit < 1 {
		return fmt.Errorf("%w: limit is %d, must be at least 1", ErrInvalidFilter, limit)
	}
	return nil
}
