package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

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

// shortenReason cuts a reason to 1,024 bytes, and drops what a text in PostgreSQL cannot hold.
func shortenReason(reason string) string {
	const most = 1024
	if len(reason) > most {
		reason = reason[:most]
	}
	return strings.ToValidUTF8(strings.ReplaceAll(reason, "\x00", ""), "")
}
