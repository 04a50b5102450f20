package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/storable"
	"github.com/signalbox-go/signalbox/outbox"
)

// A HeldKey is a key with so many deliveries that its later events stay in the log, until the line of its deliveries grows shorter.
type HeldKey struct {
	Key        string    `json:"key"`
	Lane       int16     `json:"lane"`
	HeldAt     time.Time `json:"held_at"`    // since when
	FromID     int64     `json:"from_id"`    // from this event on, the key's events are in the log only
	Deliveries int64     `json:"deliveries"` // those of its line, the head included; counted up to 10,001
	WaitsFor   WaitsFor  `json:"waits_for"`
	Head       *LineHead `json:"head"` // the first delivery of its line; nil while the line has none
}

// A LineHead is the first delivery of the line of a key. The others of the line wait for it.
type LineHead struct {
	ID      int64        `json:"id"`      // of the event
	State   outbox.State `json:"state"`   // Dead where the key waits for a decision
	Attempt int          `json:"attempt"` // attempts begun
	DueAt   time.Time    `json:"due_at"`  // when the next one may begin
	Error   string       `json:"error"`   // of the last failure; "" if there was none
}

// WaitsFor is what a [HeldKey] waits for.
type WaitsFor string

// What held keys wait for.
const (
	WaitsForHandler  WaitsFor = "handler"  // a handler runs with the head of the line
	WaitsForAttempt  WaitsFor = "attempt"  // the head is tried again once it is due, at DueAt
	WaitsForWorker   WaitsFor = "worker"   // the head is due: it runs once a worker gets to it
	WaitsForDecision WaitsFor = "decision" // the head is a dead letter that stops its key: retry, skip or discard it
	WaitsForRefill   WaitsFor = "refill"   // the line is empty: a worker makes deliveries of the next events in the log
)

// heldLine is where the deliveries of a line are not counted any more.
const heldLine = 10_001

// Held keys are few, beside their events: those of one subscription are sorted. Of each on the page, index deliveries_line has the line in
// order.
const heldKeysSQL = `
with subscription as materialized (
    select s.id from outbox.subscriptions s where s.name = $1
), held as materialized (
    select h.subscription_id, h.lane, h.key, h.held_at, h.from_id
    from subscription s
    join outbox.held_keys h on h.subscription_id = s.id
    where h.key > $2
    order by h.key
    limit $3
)
select h.key, h.lane, h.held_at, h.from_id, l.deliveries,
       case when d.event_id is null then 'refill' when d.state = 'running' then 'handler' when d.state = 'dead' then 'decision'
            when d.due_at > clock_timestamp() then 'attempt' else 'worker' end,
       d.event_id, d.state, d.attempt, d.due_at, d.errors -> -1 ->> 'error'
from held h
cross join lateral (
    select count(*) as deliveries, min(d.event_id) as head
    from (select d.event_id
          from outbox.deliveries d
          where d.subscription_id = h.subscription_id and d.lane = h.lane and d.key = h.key
            and d.key is not null and (d.state in ('retrying', 'running') or d.stops_key)
          order by d.event_id
          limit $4) d
) l
left join outbox.deliveries d on d.subscription_id = h.subscription_id and d.event_id = l.head
order by h.key`

// ListHeldKeys returns a page of the held keys of a subscription, by key. It returns ErrUnknownSubscription for an unknown name, and
// ErrInvalidFilter for an invalid option. Safe for concurrent use as far as db is.
func ListHeldKeys(ctx context.Context, db outbox.Database, name string, o ListOptions) (*Page[HeldKey], error) {
	if err := o.checkLimit(); err != nil {
		return nil, fmt.Errorf("list held keys: %w", err)
	}
	if !storable.Text(string(o.After)) {
		return nil, fmt.Errorf("list held keys: %w: after is not UTF-8 text without zero bytes", ErrInvalidFilter)
	}
	page := &Page[HeldKey]{Items: []HeldKey{}}
	err := engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, heldKeysSQL, name, string(o.After), o.Limit+1, heldLine) // one more tells whether there are more
		list, err := pgx.CollectRows(rows, scanHeldKey)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return checkKnown(ctx, tx, name)
		}
		if len(list) > o.Limit {
			list = list[:o.Limit]
			page.Next = Cursor(list[o.Limit-1].Key)
		}
		page.Items = list
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list held keys of %q: %w", name, err)
	}
	return page, nil
}

func scanHeldKey(row pgx.CollectableRow) (k HeldKey, err error) {
	var (
		id      *int64
		state   *outbox.State
		attempt *int
		due     *time.Time
		failure *string
	)
	if err := row.Scan(&k.Key, &k.Lane, &k.HeldAt, &k.FromID, &k.Deliveries, &k.WaitsFor, &id, &state, &attempt, &due, &failure); err != nil {
		return k, err
	}
	if id != nil {
		k.Head = &LineHead{ID: *id, State: *state, Attempt: *attempt, DueAt: *due}
		if failure != nil {
			k.Head.Error = *failure
		}
	}
	return k, nil
}
