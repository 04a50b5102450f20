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

// maxReplayChunk is how many events one ReplayChunk takes, at most.
const maxReplayChunk = 10_000

// CountReplay returns how many events [Replay] would replay, and changes nothing. It looks at no more than 10,000 events and
// estimates from there. Errors are those of Replay.
func CountReplay(ctx context.Context, db outbox.Database, name string, f EventFilter) (n Estimate, err error) {
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

// A Chunk is what one ReplayChunk did.
type Chunk struct {
	Events int   // how many it took
	Next   int64 // the after of the chunk that follows; 0 where there is none
}

// ReplayChunk is one step of [Replay], for callers with a pace of their own: it takes up to limit of the events that match, the
// first ones with higher ids than after. Call it again with Next until that is 0; nothing is lost in between. A chunk may be
// repeated.
//
// limit is from 1 to 10,000. A call looks at no more than 20,000 events, so it may take fewer than limit, or none, and not be
// the last. It returns ErrUnknownSubscription for an unknown name, and ErrInvalidFilter for an invalid filter or limit. Safe for
// concurrent use as far as db is.
func ReplayChunk(ctx context.Context, db outbox.Database, name string, f EventFilter, after int64, limit int) (Chunk, error) {
	if limit < 1 || limit > maxReplayChunk {
		return Chunk{}, fmt.Errorf("%w: limit is %d, must be 1 to %d", ErrInvalidFilter, limit, maxReplayChunk)
	}
	var (
		n    int
		last int64
	)
	var scanned bool // all the events that may be looked at
	err := engine.Scanning(ctx, db, func(tx pgx.Tx) error {
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
		return Chunk{}, fmt.Errorf("replay events to %q: %w", name, err)
	}
	if n < limit && !scanned {
		last = 0
	}
	return Chunk{Events: n, Next: last}, nil
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
