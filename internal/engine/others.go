package engine

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// forOthersSQL makes deliveries due that the last owner of their lane did not know, by index deliveries_for_others. One that an operator
// decides about right now is left to that.
const forOthersSQL = `
with left_over as materialized (
    select array[$1::integer] as subscription_id, d.event_id -- as in deliveredSQL
    from outbox.deliveries d
    where d.subscription_id = $1 and d.lane = any ($2::smallint[]) and d.for_others and d.state = 'retrying'
    for update skip locked
)
update outbox.deliveries d
set due_at = clock_timestamp()
from left_over l
where d.subscription_id = any (l.subscription_id) and d.event_id = l.event_id`

// TryForOthers makes what the last owners of lanes did not know due at once: this worker may. Call it for lanes that the member
// has just claimed, before it loads their lines.
func (m *Member) TryForOthers(ctx context.Context, lanes []int16) error {
	err := m.inTx(ctx, m.conns.Wait, func(batch *pgx.Batch) {
		batch.Queue(readSetup)
		batch.Queue(forOthersSQL, m.subscription, lanes)
	})
	if err != nil {
		return fmt.Errorf("try what was left by other workers: %w", err)
	}
	return nil
}
