package outbox

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// GlanceMost is where a [Glance] stops counting the deliveries of a subscription in one state.
const GlanceMost = 10_000

// Glance is [ReadStatus] for those who look again and again: it costs about the same however many deliveries there are. It
// counts up to GlanceMost of each state; GlanceMost + 1 stands for more. Safe for concurrent use.
func Glance(ctx context.Context, db interface {
	DB
	Beginner
},
) (*Status, error) {
	return readStatus(ctx, db, func(id int32, s *SubscriptionStatus) error {
		return scanning(ctx, db, func(tx pgx.Tx) error {
			return countBy(ctx, tx, s.Deliveries, glanceSQL, id, GlanceMost+1)
		})
	})
}

// Each arm has an index that leads to its rows, and stops at the limit: deliveries_decide those that are dead or skipped,
// deliveries_line those with a key, deliveries_due those without, and deliveries_owner what runs.
const glanceSQL = `
select d.state, least(count(*), $2)
from ((select d.state from outbox.deliveries d where d.subscription_id = $1 and d.state = 'dead' limit $2)
      union all
      (select d.state from outbox.deliveries d where d.subscription_id = $1 and d.state = 'skipped' limit $2)
      union all
      select l.state
      from (select d.state
            from outbox.deliveries d
            where d.subscription_id = $1 and d.key is not null and (d.state in ('retrying', 'running') or d.stops_key)
            limit $2) l
      where l.state = 'retrying'
      union all
      (select d.state from outbox.deliveries d where d.subscription_id = $1 and d.key is null and d.state = 'retrying' limit $2)
      union all
      select d.state from outbox.deliveries d where d.owner is not null and d.subscription_id + 0 = $1) d
group by d.state`

// CountDeliveriesTo is [CountDeliveries] for those who only want to know whether there are more than so many: it stops at most.
func CountDeliveriesTo(ctx context.Context, db DB, f DeliveryFilter, most int64) (int64, error) {
	args, err := f.args(most)
	if err != nil {
		return 0, err
	}
	var n int64
	err = db.QueryRow(ctx, `
		select count(*) from (select from outbox.deliveries d where `+filterSQL+` limit $9) d`, args...).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count deliveries: %w", err)
	}
	return n, nil
}
