package admin

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// replayChunk is one step of Replay: it takes up to limit of the events that match, the first ones after an id, and returns how many they
// were, and the id after which the next chunk goes on: 0 at the end. It looks at no more than 20,000 events, so it may take fewer than
// limit, or none, and not be the last. Repeating it is harmless.
func replayChunk(ctx context.Context, db outbox.Database, name string, f EventFilter, after int64, limit int) (events, next int64, err error) {
	ctx, cancel := whole(ctx)
	defer cancel()
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
		if err := tx.QueryRow(ctx, scan.replaySQL(), args...).Scan(&events, &next, &scanned); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `select outbox.notify('`+engine.DeliveriesPayload+`') where $1`, events > 0)
		return err
	})
	if events < int64(limit) && !scanned {
		next = 0
	}
	return events, next, err
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
