package engine

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const recordBreakerSQL = `
update outbox.members m
set breaker_opened_at = case when $3::boolean then coalesce(m.breaker_opened_at, clock_timestamp()) end, breaker_topics = $4::text[]
where m.worker_id = $1 and m.subscription_id = $2`

// RecordBreaker notes in the member's row that its circuit breaker has opened or closed, for those who look at the outbox: for some topics
// or, where there are none, for the subscription. Nothing that is read or settled depends on it.
func (m *Member) RecordBreaker(ctx context.Context, open bool, topics []string) error {
	err := m.inTx(ctx, m.conns.Wait, func(batch *pgx.Batch) {
		batch.Queue(recordBreakerSQL, m.worker, m.subscription, open, append([]string{}, topics...))
	})
	if err != nil {
		return fmt.Errorf("record the breaker: %w", err)
	}
	return nil
}
