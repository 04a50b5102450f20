package admin

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// A BlockedKey is a key whose events wait behind an unfinished one.
type BlockedKey struct {
	Key     string   `json:"key"`
	Head    LineHead `json:"head"`    // the event that is to be handled first
	Waiting int64    `json:"waiting"` // events behind it that are deliveries already
}

// blockedScan is how many deliveries of a subscription are looked at to find blocked keys.
const blockedScan = 10_000

// Index deliveries_line has the lines of all keys one after the other.
const blockedKeysSQL = `
with line as materialized (
    select d.event_id, d.lane, d.key
    from outbox.deliveries d
    where d.subscription_id = (select s.id from outbox.subscriptions s where s.name = $1)
      and d.key is not null and (d.state in ('retrying', 'running') or d.stops_key)
    limit $2
), longest as materialized (
    select l.key, min(l.event_id) as head, count(*) - 1 as waiting
    from line l
    group by l.lane, l.key
    order by 3 desc, 2
    limit $3
)
select l.key, l.head, d.state, d.attempt, d.due_at, coalesce(d.errors -> -1 ->> 'error', ''), l.waiting
from longest l
join outbox.deliveries d on d.event_id = l.head and d.subscription_id = (select s.id from outbox.subscriptions s where s.name = $1)
order by l.waiting desc, l.head`

// ListBlockedKeys returns the keys of a subscription that have unfinished events, those with the longest lines first, up to limit.
// It looks at no more than 10,000 deliveries, so it has no pages. It returns ErrUnknownSubscription for an unknown name. Safe for
// concurrent use as far as db is.
func ListBlockedKeys(ctx context.Context, db outbox.Database, name string, limit int) (list []BlockedKey, err error) {
	err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, blockedKeysSQL, name, blockedScan, limit)
		if list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (k BlockedKey, err error) {
			err = row.Scan(&k.Key, &k.Head.ID, &k.Head.State, &k.Head.Attempt, &k.Head.DueAt, &k.Head.Error, &k.Waiting)
			return k, err
		}); err != nil || len(list) > 0 {
			return err
		}
		return checkKnown(ctx, tx, name)
	})
	if err != nil {
		return nil, fmt.Errorf("list blocked keys of %q: %w", name, err)
	}
	return list, nil
}
