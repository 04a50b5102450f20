package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// GetStatusUpTo is [GetStatus] for callers that ask again and again: it costs about the same however many deliveries there are. It stops
// counting the deliveries of a subscription in one state at limit, which is at least 1: a number that reaches it is a lower bound, retrying
// and [Blocked] together. Oldest is then the oldest of those that it counted. It returns ErrInvalidFilter for an invalid limit. Safe for
// concurrent use as far as db is.
func GetStatusUpTo(ctx context.Context, db outbox.Database, limit int64) (*Status, error) {
	if err := checkUpTo(limit); err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	return readStatus(ctx, db, func(id int32, s *SubscriptionStatus) error {
		return engine.Scanning(ctx, db, func(tx pgx.Tx) error {
			rows, _ := tx.Query(ctx, boundedSQL, id, limit)
			var (
				state     outbox.State
				n         int64
				published time.Time
				failing   *time.Time
			)
			_, err := pgx.ForEachRow(rows, []any{&state, &n, &published, &failing}, func() error {
				s.Deliveries[state] = n
				if state != outbox.Dead && state != outbox.Skipped {
					s.holds(OldestEvent{PublishedAt: published, State: state})
				}
				if failing != nil && (s.FailingSince == nil || failing.Before(*s.FailingSince)) {
					s.FailingSince = failing
				}
				return nil
			})
			return err
		})
	})
}

// Each arm has an index that leads to its rows, and stops at the limit: deliveries_decide those that are dead or skipped,
// deliveries_line those with a key, deliveries_due those without, and deliveries_owner what runs. deliveries_line has a key's
// line in order: all but its head are blocked. What is not retrying there is walked past; there is little of that, heads that run or
// stop their keys.
const boundedSQL = `
select d.state, count(*), min(d.published_at), min(d.failed)
from ((select d.state, d.published_at, null::timestamptz as failed
       from outbox.deliveries d where d.subscription_id = $1 and d.state = 'dead' order by d.event_id limit $2)
      union all
      (select d.state, d.published_at, null
       from outbox.deliveries d where d.subscription_id = $1 and d.state = 'skipped' order by d.event_id limit $2)
      union all
      (select case when l.place > 1 then 'blocked' else l.state end, l.published_at, l.failed
       from (select d.state, d.published_at, ` + failedSQL + ` as failed, row_number() over (partition by d.lane, d.key order by d.event_id) as place
             from outbox.deliveries d
             where d.subscription_id = $1 and d.key is not null and (d.state in ('retrying', 'running') or d.stops_key)) l
       where l.state = 'retrying'
       limit $2)
      union all
      (select d.state, d.published_at, ` + failedSQL + `
       from outbox.deliveries d where d.subscription_id = $1 and d.key is null and d.state = 'retrying' limit $2)
      union all
      select d.state, d.published_at, ` + failedSQL + ` from outbox.deliveries d where d.owner is not null and d.subscription_id + 0 = $1) d
group by d.state`
