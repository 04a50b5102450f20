package engine

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-go/signalbox/internal/naming"
)

// A Ring is a wake-up: which lanes may have something, and what else may have changed.
type Ring struct {
	Lanes      uint64 // a bit for each lane
	Freed      bool   // lanes may have become free
	Deliveries bool   // somebody has decided about deliveries
}

// The payloads of notifications that are not about events.
const (
	LanesPayload      = "lanes"
	DeliveriesPayload = "deliveries"
)

// everyLane is the mask of all lanes.
const everyLane = ^uint64(0)

// ParseRing reads the payload of a notification on [Channel]: empty when every lane may have something, a hexadecimal
// mask of lanes, "lanes" or "deliveries". A payload that it does not know wakes nobody: it is not from an outbox.
func ParseRing(payload string) Ring {
	switch payload {
	case "":
		return Ring{Lanes: everyLane}
	case LanesPayload:
		return Ring{Freed: true}
	case DeliveriesPayload:
		return Ring{Deliveries: true}
	}
	mask, err := strconv.ParseUint(payload, 16, 64)
	if err != nil {
		return Ring{}
	}
	return Ring{Lanes: mask}
}

// A Bell is the sentinel's hand on the doorbell. While it is armed, every publishing transaction finds that it cannot
// share the bell's lock, and notifies. While it is not, publishers share the lock and send nothing, and the sentinel has to
// look for itself. Not safe for concurrent use.
type Bell struct {
	lock  naming.Conn // holds the bell's lock while armed, or waits for it
	probe naming.Conn
	seen  snapshot // of the last look
	floor int64
}

// NewBell returns a bell that is not armed, for the worker that is the sentinel. Both connections must reach PostgreSQL
// directly, and are the bell's alone. A former sentinel that still holds the lock, because it is frozen or cut off, loses it.
func NewBell(ctx context.Context, lock, probe naming.Conn, s Subscription) (*Bell, error) {
	b := &Bell{lock: lock, probe: probe, floor: s.floor}
	_, err := lock.Exec(ctx, `
		select pg_terminate_backend(l.pid)
		from pg_locks l
		where l.locktype = 'advisory' and l.classid = `+LockClass+` and l.objid = $1 and l.objsubid = 2 and l.mode = 'ExclusiveLock'
		  and l.database = (select d.oid from pg_database d where d.datname = current_database())`, LockBell)
	if err != nil {
		return nil, fmt.Errorf("take over the doorbell: %w", err)
	}
	if _, err := probe.Exec(ctx, probeSetup); err != nil {
		return nil, fmt.Errorf("take over the doorbell: %w", err)
	}
	b.seen, err = b.look(ctx, probe)
	return b, err
}

// probeSetup is readSetup for a connection that is the bell's alone.
var probeSetup = strings.ReplaceAll(readSetup, "true)", "false)")

func (b *Bell) look(ctx context.Context, conn naming.Conn) (snapshot, error) {
	var text string
	if err := conn.QueryRow(ctx, `select pg_current_snapshot()::text`).Scan(&text); err != nil {
		return snapshot{}, fmt.Errorf("look at the outbox: %w", err)
	}
	return parseSnapshot(text)
}

// Arm asks for the bell's lock, and waits for up to the timeout for those publishers that share it: they have sent
// nothing. Those that come meanwhile find the request in the queue and notify. It reports whether the lock was
// granted; then one more Probe is due, which finds what the last publishers left.
//
// It may run beside Probe. Safe to call again after false. The timeout is the server's, so that no request stays behind.
func (b *Bell) Arm(ctx context.Context, timeout time.Duration) (bool, error) {
	_, err := b.lock.Exec(ctx, `select set_config('lock_timeout', $1, false)`, strconv.FormatInt(timeout.Milliseconds(), 10))
	if err == nil {
		_, err = b.lock.Exec(ctx, `select pg_advisory_lock(`+LockClass+`, $1::integer)`, LockBell)
	}
	if lockTimedOut(err) {
		// It may have been granted at that very moment, and a session keeps its locks when a statement fails.
		if _, err := b.lock.Exec(ctx, `select pg_advisory_unlock_all()`); err != nil {
			return false, fmt.Errorf("give up arming the doorbell: %w", err)
		}
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("arm the doorbell: %w", err)
	}
	return true, nil
}

// Watch returns an error when the connection that holds the lock is lost, and the lock with it: nobody would ring any more. Until
// then it waits for ctx to end, and then returns nil. So often it makes sure of the lock: a connection that silently passes nothing
// does not tell when it is lost. Not beside Arm or Disarm.
func (b *Bell) Watch(ctx context.Context, every time.Duration) error {
	for {
		idle, cancel := context.WithTimeout(ctx, every)
		_, err := b.lock.WaitForNotification(idle)
		waited := idle.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			continue
		case waited:
			_, err = b.lock.Exec(context.WithoutCancel(ctx), `select`) // cut short, it would take the connection with it
		}
		if err != nil {
			return fmt.Errorf("hold the doorbell: %w", err)
		}
	}
}

// Disarm gives the lock back. What was published until now has notified; what is published from now on is found by
// the next Probe, because it looks from before the lock was given back.
func (b *Bell) Disarm(ctx context.Context) error {
	seen, err := b.look(ctx, b.lock)
	if err != nil {
		return err
	}
	if _, err := b.lock.Exec(ctx, `select pg_advisory_unlock(`+LockClass+`, $1::integer)`, LockBell); err != nil {
		return fmt.Errorf("disarm the doorbell: %w", err)
	}
	b.seen = seen
	return nil
}

// A Probe's cost depends on the number of transactions that ended since the last one, not on what they wrote, nor on how many
// workers and subscriptions there are: index events_xid_id is probed once for each, for at most probeRows rows in all.
// Transactions that still run are not probed for: their rows would be walked and not seen.
//
// The notification travels in the same transaction, which writes nothing else and so waits for no fsync.
const probeSQL = `
with now as materialized (
    select pg_current_snapshot() as snapshot
), ended as materialized (
    select x.xid
    from (select unnest($1::bigint[])
          union all
          select generate_series($2::bigint, pg_snapshot_xmax((select n.snapshot from now n))::text::bigint - 1)) as x (xid)
    where pg_visible_in_snapshot(x.xid::text::xid8, (select n.snapshot from now n))
), found as materialized (
    select e.lane, x.xid
    from ended x
    cross join lateral (
        select e.lane
        from outbox.events e
        where e.xid = x.xid::text::xid8 and e.id > $3::bigint
        order by e.id
        limit $4::integer
    ) e
    limit $4::integer
), ring as materialized (
    select count(distinct f.xid) as publishers,
           case when count(*) = $4::integer then '' else to_hex(bit_or(1::bigint << f.lane)) end as payload
    from found f
)
select (select n.snapshot::text from now n), r.publishers, r.payload,
       case when r.publishers > 0 then outbox.notify(r.payload)::text end
from ring r`

// probeRows bounds what a probe looks at. When there is more, it rings for every lane.
const probeRows = 1000

// Probe looks for events that appeared since the last look, and rings for their lanes. It returns the ring, for those
// who need not wait for the notification, and how many transactions had published.
func (b *Bell) Probe(ctx context.Context) (Ring, int, error) {
	var (
		text       string
		publishers int
		payload    *string
	)
	err := b.probe.QueryRow(ctx, probeSQL, b.seen.xip, b.seen.xmax, b.floor, probeRows).Scan(&text, &publishers, &payload, nil)
	if err != nil {
		return Ring{}, 0, fmt.Errorf("probe the outbox: %w", err)
	}
	seen, err := parseSnapshot(text)
	if err != nil {
		return Ring{}, 0, fmt.Errorf("probe the outbox: %w", err)
	}
	b.seen = seen
	if publishers == 0 {
		return Ring{}, 0, nil
	}
	return ParseRing(*payload), publishers, nil
}

// RingAll wakes every worker for everything: whoever takes over the bell does not know what was missed.
func RingAll(ctx context.Context, conn naming.Conn) error {
	if _, err := conn.Exec(ctx, `select outbox.notify('')`); err != nil {
		return fmt.Errorf("ring: %w", err)
	}
	return nil
}

// Crowded reports whether publishers wait for each other's commits, because their notifications are sent one at a time.
func (b *Bell) Crowded(ctx context.Context) (bool, error) {
	var crowded bool
	err := b.probe.QueryRow(ctx, `
		select exists (select from pg_locks l
		               where l.locktype = 'object' and l.database = 0 and l.classid = 'pg_database'::regclass
		                 and l.objid = 0 and not l.granted)`).Scan(&crowded)
	if err != nil {
		return false, fmt.Errorf("look for waiting publishers: %w", err)
	}
	return crowded, nil
}
