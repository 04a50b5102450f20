package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/naming"
)

// Advisory locks of a database have two numbers. The first is the outbox's, or the next one for workers' ids; the second is one of these.
const (
	LockClass       = naming.LockClass
	LockBell        = 1 // see Bell; also in the trigger doorbell
	LockSentinel    = 2 // held by the worker that is the sentinel
	lockTrim        = 3 // exclusive while events are deleted, shared by those who ask the log for a place to begin
	WorkerLockClass = naming.WorkerLockClass
)

// AnnounceSQL tells workers that lanes or members have changed hands.
const AnnounceSQL = `select outbox.notify('` + LanesPayload + `')`

// LiveSQL is whether worker w lives: it was seen within its lease and, if it is direct, a session holds the lock of its id. All that
// is said about workers comes from here, so that a dead one is dead for everything. The locks are read once a statement.
const LiveSQL = `(w.seen_at >= clock_timestamp() - w.lease and (not w.direct or (w.id & x'7fffffff'::bigint) in (
    select l.objid::bigint
    from pg_locks l
    where l.locktype = 'advisory' and l.classid = ` + WorkerLockClass + ` and l.objsubid = 2 and l.granted
      and l.database = (select d.oid from pg_database d where d.datname = current_database()))))`

// Join registers a worker process for subscriptions and returns its id. The id is alive as long as the connection, which
// holds a session lock for it, and as long as [Beat] is called within the lease. direct says that the connection
// reaches PostgreSQL itself; through a pooling proxy, which has no sessions to hold a lock in, only the lease counts.
func Join(ctx context.Context, conn naming.Conn, name string, direct bool, lease time.Duration, subscriptions []int32) (int64, error) {
	var id int64
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `insert into outbox.workers (name, direct, lease, knows) values ($1, $2, $3, $4) returning id`, name, direct, lease, Features).Scan(&id)
		if err != nil {
			return err
		}
		if direct { // before anybody can see the row, or the sentinel might miss the lock
			if _, err := tx.Exec(ctx, `select pg_advisory_lock(`+WorkerLockClass+`, $1::integer)`, lockID(id)); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `
			insert into outbox.members (worker_id, subscription_id, topics)
			select $1, s.id, s.topics from outbox.subscriptions s where s.id = any ($2::integer[])`, id, subscriptions)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("join: %w", unknownFeature(err))
	}
	return id, nil
}

// lockID folds a worker's id to the width of an advisory lock's second number.
func lockID(worker int64) int32 { return int32(worker & 0x7fffffff) }

// A Pulse is what a heartbeat found out.
type Pulse struct {
	// Alive is false when the worker has been evicted.
	Alive bool
	// Sentinel is true when this heartbeat made the worker the sentinel.
	Sentinel bool
	// Shares has, by subscription, how many lanes the worker should own.
	Shares map[int32]Share
	// Changing is true when a subscription waits for its workers to release it: see [FinishChanges].
	Changing bool
	// Topics has the subscriptions that have other topics than the worker reads with.
	Topics map[int32]OtherTopics
	// Probes has, by subscription, when an operator last asked to try whether an outage is over.
	Probes map[int32]time.Time
	// Stuck is true while the server's queue of notifications is, so that none are sent.
	Stuck bool
	// Workers is how many there are, this one included.
	Workers int

	snapshot snapshot
	head     int64
}

// A Share is a worker's part of a subscription.
type Share struct {
	Fair    int // lanes that it should own: none while the subscription is paused, rewound or about to have other topics
	Free    int // lanes that nobody owns
	Sharing int // workers that share the lanes: those that know all of its topics
}

// One statement a second for each worker, whatever it serves: it says that the worker lives, asks for the sentinel's
// lock, and brings what is needed to know whether lanes should change hands and whether a read could find anything.
// Small tables, and a sequence; no index can help, and none is needed.
const beatSQL = `
with beat as (
    update outbox.workers w set seen_at = clock_timestamp() where w.id = $1 and w.lease > ` + noLease + ` returning w.id
)
select exists (select from beat),
       $2::boolean and pg_try_advisory_lock(` + LockClass + `, $3::integer),
       pg_current_snapshot()::text,
       ` + HeadSQL + `,
       array(select (m.subscription_id, count(*) filter (where m.topics = s.topics),
                     count(*) filter (where m.topics = s.topics and m.worker_id < $1), bool_or(m.topics = s.topics and m.worker_id = $1) is true,
                     (select count(*) from outbox.lanes l where l.subscription_id = m.subscription_id and l.owner is null))
             from outbox.members m join outbox.subscriptions s on s.id = m.subscription_id
             where m.subscription_id in (select mine.subscription_id from outbox.members mine where mine.worker_id = $1)
             group by m.subscription_id),
       array(select s.id from outbox.subscriptions s where s.paused_at is not null or s.rewind_to is not null or s.topics_to is not null),
       exists (select from outbox.subscriptions s where s.rewind_to is not null or s.topics_to is not null),
       array(select (s.id, s.probe_at) from outbox.subscriptions s where s.probe_at is not null),
       outbox.notifications_stuck(),
       array(select (s.id, s.topics, m.topics, exists (select from outbox.lanes l where l.subscription_id = s.id and l.owner = $1))
             from outbox.members m join outbox.subscriptions s on s.id = m.subscription_id
             where m.worker_id = $1 and m.topics is distinct from s.topics),
       (select count(*) from outbox.workers w)`

// Beat says that the worker lives. With candidate, it also asks to become the sentinel. Call it about once a second.
func Beat(ctx context.Context, conn naming.Conn, worker int64, candidate bool) (Pulse, error) {
	var (
		p      = Pulse{Shares: map[int32]Share{}, Probes: map[int32]time.Time{}, Topics: map[int32]OtherTopics{}}
		seen   string
		shares []struct {
			Subscription  int32
			Members, Rank int64
			Mine          bool
			Free          int64
		}
		stopped []int32 // subscriptions that nobody should serve
		probes  []struct {
			Subscription int32
			At           time.Time
		}
		others []struct {
			Subscription int32
			Have, Reads  []string
			Owner        bool
		}
	)
	err := conn.QueryRow(ctx, beatSQL, worker, candidate, LockSentinel).
		Scan(&p.Alive, &p.Sentinel, &seen, &p.head, &shares, &stopped, &p.Changing, &probes, &p.Stuck, &others, &p.Workers)
	if err != nil {
		return Pulse{}, fmt.Errorf("heartbeat: %w", err)
	}
	if p.snapshot, err = parseSnapshot(seen); err != nil {
		return Pulse{}, fmt.Errorf("heartbeat: %w", err)
	}
	for _, probe := range probes {
		p.Probes[probe.Subscription] = probe.At
	}
	for _, o := range others {
		p.Topics[o.Subscription] = OtherTopics{Have: o.Have, Reads: o.Reads, Owner: o.Owner}
	}
	for _, s := range shares {
		// The first few own one lane more, so that nobody has to go without.
		fair := Lanes / max(1, s.Members)
		if s.Rank < Lanes%max(1, s.Members) {
			fair++
		}
		if !s.Mine || slices.Contains(stopped, s.Subscription) {
			fair = 0
		}
		p.Shares[s.Subscription] = Share{Fair: int(fair), Free: int(s.Free), Sharing: int(s.Members)}
	}
	return p, nil
}

// FindDead returns the workers that should be evicted: those whose session lock is gone (vanished), and those that were not
// seen for longer than their lease, because they are frozen or cut off from the network (expired). A worker that is just
// shutting down may be among the first, so wait a moment and look again.
func FindDead(ctx context.Context, conn naming.Conn) (vanished, expired []int64, err error) {
	rows, _ := conn.Query(ctx, `
		select w.id, w.seen_at < clock_timestamp() - w.lease from outbox.workers w where not `+LiveSQL)
	var (
		id   int64
		late bool
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &late}, func() error {
		if late {
			expired = append(expired, id)
		} else {
			vanished = append(vanished, id)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look for dead workers: %w", err)
	}
	return vanished, expired, nil
}

// EndFrozenSentinel ends the session of a sentinel that has not been seen for longer than its lease, because it is frozen or cut off: it
// would keep the role for as long as the server believes in its connection. So does one that has evicted itself, over another
// connection, because that one passes nothing any more. Any worker may call it.
func EndFrozenSentinel(ctx context.Context, conn naming.Conn, lease time.Duration) error {
	_, err := conn.Exec(ctx, `
		select pg_terminate_backend(s.pid)
		from pg_locks s
		join pg_locks l on l.pid = s.pid and l.locktype = 'advisory' and l.classid = `+WorkerLockClass+` and l.objsubid = 2
		left join outbox.workers w on (w.id & x'7fffffff'::bigint) = l.objid::bigint
		where s.locktype = 'advisory' and s.classid = `+LockClass+` and s.objid = $1 and s.objsubid = 2 and s.granted
		  and s.database = (select d.oid from pg_database d where d.datname = current_database()) and l.database = s.database
		  and (w.id is null or w.seen_at < clock_timestamp() - $2::interval)`, LockSentinel, lease)
	if err != nil {
		return fmt.Errorf("look after the sentinel: %w", err)
	}
	return nil
}

// SessionName is what a connection of a worker calls itself in pg_stat_activity. Workers of several outboxes may have the same id.
func SessionName(n naming.Name, worker int64, purpose string) string {
	if n != "" {
		return fmt.Sprintf("signalbox worker %d of %s: %s", worker, n, purpose)
	}
	return fmt.Sprintf("signalbox worker %d: %s", worker, purpose)
}

// EndSessions ends the connections of a worker that have a SessionName. One that froze in the middle of a transaction
// keeps its locks, and would hold up whoever takes over.
func EndSessions(ctx context.Context, conn naming.Conn, worker int64) error {
	_, err := conn.Exec(ctx, `
		select pg_terminate_backend(a.pid)
		from pg_stat_activity a
		where a.datname = current_database() and a.pid <> pg_backend_pid() and starts_with(a.application_name, $1)`, SessionName(naming.For(conn), worker, ""))
	if err != nil {
		return fmt.Errorf("end the sessions of worker %d: %w", worker, err)
	}
	return nil
}

// Evict removes a worker that is dead or on its way out, and frees what it owned for others. It reports whether there was
// such a worker. Attempts that it had begun are kept with the reason why. It returns ErrBusy when a settle of the worker takes longer than a second. Safe to call from any number of
// processes at once.
//
// It waits for nobody else: deliveries that an operator has locked stay the worker's, and its row in outbox.workers stays, without a lease, until a later call finds them
// free. FindDead tells of it as long. Everything else is for others to take at once.
//
// Deleting the row waits for settles in flight, and fences off those to come. Only then, in a later statement with a
// snapshot of its own, is the worker's last progress sure to be there: folded in the same statement, or under
// repeatable read, it could be a stale row.
func Evict(ctx context.Context, conn naming.Conn, worker int64, why string) (bool, error) {
	var gone, freed bool
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		// A settle in flight may hang with its process: PostgreSQL ends it after idle_in_transaction_session_timeout.
		// Where row security would hide progress, the eviction fails.
		if _, err := tx.Exec(ctx, `select set_config('lock_timeout', '1s', true), set_config('row_security', 'off', true)`); err != nil {
			return err
		}
		var err error
		if gone, freed, err = remove(ctx, tx, worker, why); err != nil || !gone && !freed {
			return err
		}
		_, err = tx.Exec(ctx, AnnounceSQL)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("evict worker %d: %w", worker, busy(err))
	}
	return gone, nil
}

// noLease is the lease of a worker that is evicted, but for deliveries that somebody has locked: it is over whenever it was last seen.
const noLease = `interval '0'`

// remove deletes a worker's rows and frees what it owned. It reports whether the worker had not been evicted before, and whether deliveries were
// freed. The transaction must be read committed.
func remove(ctx context.Context, tx pgx.Tx, worker int64, why string) (gone, freed bool, err error) {
	type member struct {
		Subscription int32
		Trying       []int64
	}
	// In the order of the fence.
	var name string
	err = tx.QueryRow(ctx, `select w.name, w.lease > `+noLease+` from outbox.workers w where w.id = $1 for update`, worker).Scan(&name, &gone)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	rows, _ := tx.Query(ctx, `delete from outbox.members m where m.worker_id = $1 returning m.subscription_id, m.trying`, worker)
	members, err := pgx.CollectRows(rows, pgx.RowToStructByPos[member])
	if err != nil {
		return false, false, err
	}
	for _, m := range members {
		if _, err := tx.Exec(ctx, suspectTriedSQL, worker, m.Subscription, m.Trying); err != nil {
			return false, false, err
		}
	}
	tag, err := tx.Exec(ctx, freeDeliveriesSQL, worker, name, why)
	if err != nil {
		return false, false, err
	}
	for _, sql := range []string{foldSQL, foldHandledSQL, freeLanesSQL, dropProgressSQL, dropWorkerSQL, keepWorkerSQL} {
		if _, err := tx.Exec(ctx, sql, worker); err != nil {
			return false, false, err
		}
	}
	return gone, tag.RowsAffected() > 0, nil
}

const (
	foldSQL = `
with latest as (
    select distinct on (p.subscription_id, u.lane)
           p.subscription_id, u.lane, u.after_id, p.pending, p.late, p.late_after_id
    from outbox.progress p, unnest(p.lanes, p.after_ids) as u (lane, after_id)
    where p.owner = $1
    order by p.subscription_id, u.lane, p.seq desc
)
update outbox.lanes l
set after_id = p.after_id, pending = p.pending, late = p.late, late_after_id = p.late_after_id
from latest p
where l.owner = $1 and l.subscription_id = p.subscription_id and l.lane = p.lane`

	// What it has handled is added to one lane of each subscription, to one of its own if it has any. It never waits for a lane: where
	// all are locked, a rate misses a few events.
	foldHandledSQL = `
with latest as (
    select distinct on (p.subscription_id) p.subscription_id, p.handled, p.handled_at
    from outbox.progress p
    where p.owner = $1
    order by p.subscription_id, p.seq desc
), kept as (
    select h.subscription_id, l.lane, h.handled, h.handled_at
    from latest h
    cross join lateral (
        select l.lane
        from outbox.lanes l
        where l.subscription_id = h.subscription_id
        order by l.owner is not distinct from $1 desc, l.lane
        limit 1
        for update skip locked
    ) l
)
update outbox.lanes l
set handled = l.handled + k.handled, handled_at = greatest(l.handled_at, k.handled_at)
from kept k
where l.subscription_id = k.subscription_id and l.lane = k.lane`

	// First attempts are not written down, so whatever the last claim has chosen may have been running. What somebody decides about right now
	// is not marked: should it be what killed the worker, the next eviction finds it.
	suspectTriedSQL = `
with tried as materialized (
    select d.subscription_id, d.event_id
    from outbox.deliveries d
    join outbox.lanes l on l.subscription_id = d.subscription_id and l.lane = d.lane and l.owner = $1
    where d.subscription_id = $2 and d.event_id = any ($3::bigint[]) and d.state = 'retrying' and d.attempt = 0
    for update of d skip locked
)
update outbox.deliveries d
set suspect = true
from tried t
where d.subscription_id = t.subscription_id and d.event_id = t.event_id`

	freeLanesSQL = `update outbox.lanes l set owner = null, suspect = true where l.owner = $1`

	freeDeliveriesSQL = `
with owned as materialized (
    select d.subscription_id, d.event_id from outbox.deliveries d where d.owner = $1 for update skip locked
)
update outbox.deliveries d
set state = 'retrying', owner = null, suspect = true, due_at = clock_timestamp(),
    errors = d.errors || jsonb_build_object('attempt', d.attempt, 'at', clock_timestamp(), 'worker', $2::text, 'error', $3::text)
from owned o
where d.subscription_id = o.subscription_id and d.event_id = o.event_id`

	dropProgressSQL = `delete from outbox.progress p where p.owner = $1`

	dropWorkerSQL = `delete from outbox.workers w where w.id = $1 and not exists (select from outbox.deliveries d where d.owner = $1)`
	keepWorkerSQL = `update outbox.workers w set lease = ` + noLease + ` where w.id = $1`
)
