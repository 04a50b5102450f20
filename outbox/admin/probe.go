package admin

import (
	"context"

	"github.com/signalbox-go/signalbox/outbox"
)

// Probe has the workers of a subscription whose circuit breaker is open, also if that is for some topics, try at once whether attempts succeed again. Else they
// pause for up to 5 seconds between two tries. The breaker closes once attempts succeed. While it is closed, Probe changes nothing. It returns ErrUnknownSubscription if there is no subscription of that name.
//
// In a transaction, it counts from the commit on. Safe for concurrent use as far as db is.
func Probe(ctx context.Context, db outbox.DB, name string) error {
	return administer(ctx, db, name, "probe", `
		update outbox.subscriptions s set probe_at = clock_timestamp() where s.name = $1`)
}
