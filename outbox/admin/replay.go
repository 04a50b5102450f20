package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// replayChunk is how many events one ReplayEvents takes, at most.
const replayChunk = 10_000

// CountReplay returns how many events [ReplayEvents] would replay in all, and changes nothing. It looks at no more than
// 10,000 events and estimates from there. Errors are those of ReplayEvents.
func CountReplay(ctx context.Context, db outbox.Beginner, name string, f EventFilter) (n Estimate, err error) {
	err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		s, err := engine.FindSubscription(ctx, tx, name)
		if errors.Is(err, pgx.ErrNoRows) {
			return outbox.ErrUnknownSubscription
		}
		if err != nil {
			return err
		}
		scan, err := newScan(ctx, tx, f)
		if err != nil {
			return err
		}
		n, err = scan.count(ctx, tx, s)
		return err
	})
	if err != nil {
		return Estimate{}, fmt.Errorf("count events to replay to %q: %w", name, err)
	}
	return n, nil
}

// ReplayEvents lets a subscription handle the events again that match a filter, and returns how many of them it took: up to
// limit, the first ones with higher ids than after. It takes only events that match the subscription's topics and that it has
// settled; it has yet to handle the others anyway. Call it again with last as after until done is true, at the pace that suits:
// last is how far it got, and nothing is lost in between.
//
// The events become deliveries, with all their attempts. One that is to be retried or runs already stays as it is, so a chunk
// may be repeated; one that is dead or skipped is tried again. The events of a key are handled in order, among themselves and with
// those of the key that are unfinished. Once their worker has noticed, new events of a key wait for them; those of other keys do
// not. To have everything handled again, [Rewind] is faster.
//
// limit is from 1 to 10,000. A call looks at no more than 20,000 events, so n may be less than limit, or 0, without being
// done. It returns ErrUnknownSubscription where there is no subscription of that name, and ErrInvalidFilter for a filter or a
// limit that is not possible. Safe for concurrent use as far as db is.
func ReplayEvents(ctx context.Context, db outbox.Beginner, name string, f EventFilter, after int64, limit int) (n int, last int64, done bool, err error) {
	if limit < 1 || limit > replayChunk {
		return 0, after, false, fmt.Errorf("%w: a limit of %d events, from 1 to %d are possible", ErrInvalidFilter, limit, replayChunk)
	}
	var scanned bool // all the events that may be looked at
	err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		// A rewind waits, or is over: it replaces deliveries of events that cursors are yet to pass.
		var s engine.Subscription
		err := tx.QueryRow(ctx, `select s.id, s.topics from outbox.subscriptions s where s.name = $1 for no key update`, name).Scan(&s.ID, &s.Topics)
		if errors.Is(err, pgx.ErrNoRows) {
			return outbox.ErrUnknownSubscription
		}
		if err != nil {
			return err
		}
		scan, err := newScan(ctx, tx, f)
		if err != nil {
			return err
		}
		args := scan.args(max(scan.above, after), scan.upTo, scanRows, s.ID, topic.Patterns(s.Topics).Regex(), limit)
		if err := tx.QueryRow(ctx, scan.replaySQL(), args...).Scan(&n, &last, &scanned); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `select outbox.notify('`+engine.DeliveriesPayload+`') where $1`, n > 0)
		return err
	})
	if err != nil {
		return 0, after, false, fmt.Errorf("replay events to %q: %w", name, err)
	}
	return n, max(last, after), n < limit && !scanned, nil
}

// replaySQL takes the first $11 events of a scan that are wanted by the subscription $9 with the topics $10 and settled by
// it. It returns how many there were, the id up to which events were taken or looked at, and whether there may be more.
func (s *scan) replaySQL() string {
	return `
with cursors as materialized (` + engine.CursorsSQL + `
    where l.subscription_id = $9
), scanned as materialized (
    select s.*
    from (select s.*, s.wanted and s.topic ~ $10::text and ` + passedSQL + ` as taken
          from (` + s.sql(false) + `) s) s
    where s.taken or s.place = $3::integer
    order by s.id
    limit $11
), replayed as (
    insert into outbox.deliveries as d (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at, decided_at)
    select $9, s.id, s.lane, s.topic, s.key, s.payload, s.headers, s.published_at, 'retrying', clock_timestamp(), clock_timestamp()
    from scanned s
    where s.taken
      -- Not left to the conflict, which would wait for who settles one of those, who may wait for others. And not a join, for
      -- which PostgreSQL might go through all deliveries for each event.
      and (select b.state from outbox.deliveries b where b.subscription_id = $9 and b.event_id = s.id) in ('retrying', 'running') is not true
    on conflict (subscription_id, event_id) do update
    set state = 'retrying', stops_key = false, suspect = false, attempt = 0, due_at = excluded.due_at, decided_at = excluded.decided_at
    where d.state in ('dead', 'skipped')
)
select count(*) filter (where s.taken), coalesce(max(s.id), 0), coalesce(max(s.place), 0) = $3::integer
from scanned s`
}
