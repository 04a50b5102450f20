package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/storable"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/internal/uid"
	"github.com/signalbox-go/signalbox/outbox"
)

// A DeliveryFilter chooses deliveries. Its fields narrow it down; those left out match everything.
type DeliveryFilter struct {
	Subscription string         // its name. Required
	States       []outbox.State // Defaults to Dead. What waits behind an earlier one of its key is Blocked, and not Retrying
	IDs          []int64        // of the events
	Topic        string         // a pattern
	Key          string         // of the events
	Error        string         // part of the last failure's text
	Since, Until time.Time      // when it became a delivery: from Since on, and before Until
}

// A DeliveryRow is a delivery with its history.
type DeliveryRow struct {
	Event     outbox.Event `json:"event"`
	State     outbox.State `json:"state"`
	StopsKey  bool         `json:"stops_key"` // the events of its key wait for a decision
	Attempt   int          `json:"attempt"`   // attempts begun
	DueAt     time.Time    `json:"due_at"`    // when the next one may begin
	Failures  []Failure    `json:"failures"`  // one for each attempt that ended, the last one last
	CreatedAt time.Time    `json:"created_at"`
}

// ErrInvalidFilter says that a filter, or the limit that came with it, is not possible.
var ErrInvalidFilter = errors.New("invalid filter")

// filterSQL is the condition of a DeliveryFilter, in terms of its first eight parameters, but for what tells blocked ones from others.
const filterSQL = `
    d.subscription_id = (select s.id from outbox.subscriptions s where s.name = $1)
and d.state = any ($2::text[])
and ($3::bigint[] is null or d.event_id = any ($3::bigint[]))
and ($4 = '' or d.topic ~ $4)
and ($5 = '' or d.key = $5)
and ($6 = '' or position($6 in d.errors -> -1 ->> 'error') > 0)
and ($7::timestamptz is null or d.created_at >= $7)
and ($8::timestamptz is null or d.created_at < $8)`

// behindSQL is whether a delivery d waits behind an earlier one of its key: one probe of index deliveries_line.
const behindSQL = `exists (
    select from outbox.deliveries h
    where h.subscription_id = d.subscription_id and h.lane = d.lane and h.key = d.key and h.event_id < d.event_id
      and h.key is not null and (h.state in ('retrying', 'running') or h.stops_key))`

// where is the condition of the filter, in terms of its first eight parameters. Only what has state retrying is probed, and only where
// that has to be told from what is blocked: an "or" keeps the planner from a join.
func (f DeliveryFilter) where() string {
	switch retrying, blocked := slices.Contains(f.States, outbox.Retrying), slices.Contains(f.States, Blocked); {
	case retrying && !blocked:
		return filterSQL + ` and (d.state <> 'retrying' or not ` + behindSQL + `)`
	case blocked && !retrying:
		return filterSQL + ` and (d.state <> 'retrying' or ` + behindSQL + `)`
	default:
		return filterSQL
	}
}

// stored are the filter's states as table deliveries has them.
func (f DeliveryFilter) stored() []string {
	if len(f.States) == 0 {
		return []string{string(outbox.Dead)}
	}
	var states []string
	for _, state := range f.States {
		if state == Blocked {
			state = outbox.Retrying
		}
		states = append(states, string(state))
	}
	return states
}

// check refuses what chooses nothing, or what the server would refuse without saying which field it means.
func (f DeliveryFilter) check() error {
	const unstorable = "%w: %s is not UTF-8 text without zero bytes"
	switch {
	case f.Subscription == "":
		return fmt.Errorf("%w: it names no subscription", ErrInvalidFilter)
	case !storable.Text(f.Subscription):
		return fmt.Errorf(unstorable, ErrInvalidFilter, "subscription")
	case !storable.Text(f.Key):
		return fmt.Errorf(unstorable, ErrInvalidFilter, "key")
	case !storable.Text(f.Error):
		return fmt.Errorf(unstorable, ErrInvalidFilter, "error")
	}
	for _, state := range f.States {
		switch state {
		case outbox.Retrying, outbox.Running, outbox.Dead, outbox.Skipped, Blocked:
		default:
			return fmt.Errorf("%w: there is no state %q", ErrInvalidFilter, string(state))
		}
	}
	if f.Topic != "" {
		if fault := topic.PatternFault(f.Topic); fault != "" {
			return fmt.Errorf("%w: topic %s", ErrInvalidFilter, fault)
		}
	}
	return nil
}

// args are the parameters of where, followed by more.
func (f DeliveryFilter) args(more ...any) ([]any, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	regex := ""
	if f.Topic != "" {
		regex = topic.Patterns{f.Topic}.Regex()
	}
	return append([]any{f.Subscription, f.stored(), f.IDs, regex, f.Key, f.Error, optional(f.Since), optional(f.Until)}, more...), nil
}

// ListDeliveries returns a page of the deliveries that match, by rising id of their events. It returns ErrUnknownSubscription for
// an unknown subscription, and ErrInvalidFilter for an invalid filter or option. Safe for concurrent use as far as db is.
func ListDeliveries(ctx context.Context, db outbox.DB, f DeliveryFilter, o ListOptions) (*Page[DeliveryRow], error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	args, err := f.args(o.After, o.Limit+1, PageBytes) // one more tells whether there are more
	if err != nil {
		return nil, err
	}
	rows, _ := db.Query(ctx, `
		select d.event_id, d.topic, coalesce(d.key, ''), d.wanted_payload, d.wanted_headers, d.published_at,
		       d.state, d.stops_key, d.attempt, d.due_at, d.errors, d.created_at, d.found, outbox.tag()
		from (
			select d.*, count(*) over () as found,
			       sum(octet_length(d.wanted_payload::text) + octet_length(d.wanted_headers::text) + octet_length(d.errors::text))
			            over (order by d.event_id rows between unbounded preceding and 1 preceding) as before
			from (
				select d.*, `+engine.PayloadSQL+` as wanted_payload, `+engine.HeadersSQL+` as wanted_headers
				from outbox.deliveries d
				where `+f.where()+` and d.event_id > $9
				order by d.event_id
				limit $10) d) d
		where coalesce(d.before, 0) < $11
		order by d.event_id`, args...)
	var found int
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d DeliveryRow, err error) {
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
	if err == nil && len(list) == 0 {
		err = checkKnown(ctx, db, f.Subscription)
	}
	if err != nil {
		return nil, fmt.Errorf("list deliveries of %q: %w", f.Subscription, err)
	}
	page := &Page[DeliveryRow]{Items: list[:min(len(list), o.Limit)]}
	if n := len(page.Items); n > 0 && found > n {
		page.Next = page.Items[n-1].Event.ID
	}
	return page, nil
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

// RetryDeliveries has the deliveries that match tried again, at once and with all their attempts, and returns how many there are.
// Those of one key are tried in order, and later events of the key wait for them. Running deliveries, and those just being settled, are not
// touched. It is one statement, all or nothing; in a transaction, it takes effect at commit. [DecideInChunks] is for very many.
//
// Deliveries that are [Blocked] cannot be retried: they are tried once the first one of their key is done. A filter of those is an
// ErrInvalidFilter.
//
// It returns ErrUnknownSubscription for an unknown subscription, and ErrInvalidFilter for an invalid filter. Safe for concurrent use as
// far as db is.
func RetryDeliveries(ctx context.Context, db outbox.DB, f DeliveryFilter) (int64, error) {
	if slices.Contains(f.States, Blocked) {
		return 0, fmt.Errorf("%w: blocked deliveries wait for the first one of their key: retry, skip or discard that one", ErrInvalidFilter)
	}
	return decide(ctx, db, f, "retry deliveries", `
		update outbox.deliveries d
		set state = 'retrying', stops_key = false, suspect = false, attempt = 0, due_at = clock_timestamp(), decided_at = clock_timestamp()`)
}

// SkipDeliveries sets the deliveries that match aside for a reason, which is kept with them, and returns how many there are. They
// no longer hold up their keys. Otherwise it is like [RetryDeliveries].
func SkipDeliveries(ctx context.Context, db outbox.DB, f DeliveryFilter, reason string) (int64, error) {
	return decide(ctx, db, f, "skip deliveries", `
		update outbox.deliveries d
		set state = 'skipped', stops_key = false, suspect = false, due_at = clock_timestamp(), decided_at = clock_timestamp(),
		    errors = d.errors || jsonb_build_object('attempt', d.attempt, 'at', clock_timestamp(), 'worker', '', 'error', $9::text),`+engine.KeepCopySQL, shortenReason(reason))
}

// DiscardDeliveries deletes the deliveries that match, with their payloads, and returns how many there were. They no longer hold
// up their keys. Otherwise it is like [RetryDeliveries].
func DiscardDeliveries(ctx context.Context, db outbox.DB, f DeliveryFilter) (int64, error) {
	return decide(ctx, db, f, "discard deliveries", `
		delete from outbox.deliveries d`)
}

// decide runs a statement and tells the workers, in the same transaction if db is one: so they look once it is committed.
func decide(ctx context.Context, db outbox.DB, f DeliveryFilter, what, sql string, more ...any) (int64, error) {
	args, err := f.args(more...)
	if err != nil {
		return 0, err
	}
	chosen := f.where() + ` and d.state <> 'running'`
	if slices.Contains(f.States, outbox.Retrying) || slices.Contains(f.States, Blocked) {
		// But for those that are just being settled or begun: whoever does that may wait for others of these, and be the one
		// whom PostgreSQL ends for the deadlock.
		chosen = `d.ctid = any (array(select d.ctid from outbox.deliveries d where ` + chosen + ` for update skip locked))`
	}
	var (
		n     int64
		known bool
	)
	err = db.QueryRow(ctx, `with decided as (`+sql+` where `+chosen+` returning 1), told as (select count(*) as n from decided)
		select t.n, `+knownSQL+` from told t, outbox.notify('`+engine.DeliveriesPayload+`')`, args...).Scan(&n, &known)
	if err == nil && !known {
		err = outbox.ErrUnknownSubscription
	}
	if err != nil {
		return 0, fmt.Errorf("%s of %q: %w", what, f.Subscription, err)
	}
	return n, nil
}

// knownSQL is whether there is the subscription of a DeliveryFilter: a name that is mistyped is not one without deliveries.
const knownSQL = `exists (select from outbox.subscriptions s where s.name = $1)`

// shortenReason cuts a reason to 1,024 bytes, and drops what a text in PostgreSQL cannot hold.
func shortenReason(reason string) string {
	const most = 1024
	if len(reason) > most {
		reason = reason[:most]
	}
	return strings.ToValidUTF8(strings.ReplaceAll(reason, "\x00", ""), "")
}

// A Failure is a failed attempt, which is recorded in its delivery. In an outage, several have the same number: such attempts do not count.
type Failure struct {
	Attempt int       `json:"attempt"` // number of the attempt, from 1
	At      time.Time `json:"at"`      // when it ended, by the worker's clock
	Worker  string    `json:"worker"`  // Config.Name of the worker
	Error   string    `json:"error"`
}
