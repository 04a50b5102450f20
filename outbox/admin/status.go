package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Status says how the outbox is doing.
type Status struct {
	At            time.Time            `json:"at"`       // when it was read, by the database's clock
	Concerns      []Concern            `json:"concerns"` // what needs attention; none where events flow
	Subscriptions []SubscriptionStatus `json:"subscriptions"`
	Workers       []WorkerStatus       `json:"workers"`
	Doorbell      Doorbell             `json:"doorbell"`
	Log           LogStatus            `json:"log"`
}

// A Doorbell is the mode that the doorbell is in.
type Doorbell string

// The modes of the doorbell.
const (
	DoorbellArmed      Doorbell = "armed"      // publishers notify the sentinel
	DoorbellPolling    Doorbell = "polling"    // the sentinel looks by itself
	DoorbellUnattended Doorbell = "unattended" // no worker is the sentinel
)

// A LogStatus says how far back the log reaches. What is older than the retention of the workers is deleted once every
// subscription has settled it.
type LogStatus struct {
	OldestID int64      `json:"oldest_id"` // the first event that is left; 0 when the log is empty
	OldestAt *time.Time `json:"oldest_at"` // when that was published; nil when the log is empty
	HeldBy   []string   `json:"held_by"`   // names of the subscriptions that have yet to settle it, and so keep it from being deleted
	LastID   int64      `json:"last_id"`   // the last id that was handed out; its event may be uncommitted, or rolled back
}

// A SubscriptionStatus says how far a subscription is behind, and why.
type SubscriptionStatus struct {
	Name       string                 `json:"name"`
	Topics     []string               `json:"topics"`
	PausedAt   *time.Time             `json:"paused_at"` // nil while it is not paused
	Lag        Lag                    `json:"lag"`
	Deliveries map[outbox.State]int64 `json:"deliveries"` // by state; those that wait behind an earlier one of their key are Blocked, not retrying
	Oldest     *OldestEvent           `json:"oldest"`     // the oldest event that is not finished, whatever holds it; nil when all are
	HandledAt  *time.Time             `json:"handled_at"` // when it last recorded that an event succeeded; nil for never

	// FailingSince is when the oldest event that waits for another attempt had its first one, or since when an operator had it retried; nil when
	// there is none.
	FailingSince *time.Time `json:"failing_since"`

	HeldKeys        int64      `json:"held_keys"`         // keys that are held: see [ListHeldKeys]
	HeldSince       *time.Time `json:"held_since"`        // since when the first of them is; nil when there is none
	BreakerOpenedAt *time.Time `json:"breaker_opened_at"` // when the circuit breaker opened, of the first worker where it is open; nil while it is closed
	BreakerTopics   []string   `json:"breaker_topics"`    // the topics that it is open for, in some worker; none while it is open for the whole subscription in one
	FullLanes       int64      `json:"full_lanes"`        // lanes that are full, as of the last heartbeats of its workers: they are not read, since so many of their deliveries failed or wait behind one that did

	SendsTo     string       `json:"sends_to"`     // where the sinks of its workers send to; "" where its handler is none
	InFlight    int64        `json:"in_flight"`    // events that its workers have begun to send and that are not acknowledged, as of their last heartbeats
	LastFailure *LastFailure `json:"last_failure"` // the last one in a worker that lives; nil for none

	Lanes map[int64]int `json:"lanes"` // how many lanes by id of the worker that owns them; 0 for those without one that lives
}

// A LastFailure is the last [Failure] of a subscription.
type LastFailure struct {
	At    time.Time `json:"at"`    // by the worker's clock
	Error string    `json:"error"` // its first line
}

// Blocked counts, in a [SubscriptionStatus], the deliveries that wait behind an earlier one of their key.
const Blocked outbox.State = "blocked"

// Unread is the state of an [OldestEvent] that no worker has read yet.
const Unread outbox.State = "unread"

// An OldestEvent is the oldest event of a subscription that is not finished: that has neither succeeded, nor was given up.
type OldestEvent struct {
	PublishedAt time.Time    `json:"published_at"`
	State       outbox.State `json:"state"` // Unread, Retrying, Blocked or Running
}

// Lag is what a subscription has yet to read, and what the log has of its held keys. Deliveries are not part of it.
type Lag struct {
	Events    int64   `json:"events"`
	Estimated bool    `json:"estimated"` // Events was extrapolated from 10,000 events, because there are more, those of other topics included
	Seconds   float64 `json:"seconds"`   // age of the oldest of them; if Estimated, of the oldest one of any topic, which is at least that
}

// A WorkerStatus describes a worker process.
type WorkerStatus struct {
	ID            int64     `json:"id"`
	Name          string    `json:"name"`
	StartedAt     time.Time `json:"started_at"`
	SeenAt        time.Time `json:"seen_at"`
	Live          bool      `json:"live"` // false when it is dead, and no worker has evicted it yet
	Sentinel      bool      `json:"sentinel"`
	Subscriptions []string  `json:"subscriptions"` // without those that it leaves to others, because it does not know all of their topics
}

// GetStatus returns the status of the outbox. It looks at no more than 10,000 events of each subscription, so it is quick however far one
// is behind; but it counts all deliveries: see [GetStatusUpTo]. Safe for concurrent use as far as db is.
func GetStatus(ctx context.Context, db outbox.DB) (*Status, error) {
	return readStatus(ctx, db, func(id int32, s *SubscriptionStatus) error {
		if err := countBy(ctx, db, s.Deliveries, statesSQL, id); err != nil {
			return err
		}
		var blocked int64
		if err := db.QueryRow(ctx, blockedSQL, id).Scan(&blocked); err != nil {
			return err
		}
		s.block(blocked)
		var oldest OldestEvent
		err := db.QueryRow(ctx, unfinishedSQL, id).Scan(&oldest.PublishedAt, &oldest.State, &s.FailingSince)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		s.holds(oldest)
		return err
	})
}

// block moves deliveries from retrying to Blocked.
func (s *SubscriptionStatus) block(n int64) {
	if n == 0 {
		return
	}
	s.Deliveries[Blocked] = n
	if s.Deliveries[outbox.Retrying] -= n; s.Deliveries[outbox.Retrying] <= 0 {
		delete(s.Deliveries, outbox.Retrying)
	}
}

// holds notes an unfinished event, if it is older than those before.
func (s *SubscriptionStatus) holds(e OldestEvent) {
	if s.Oldest == nil || e.PublishedAt.Before(s.Oldest.PublishedAt) {
		s.Oldest = &e
	}
}

// failedSQL is since when a delivery d has failed, or null. What an operator has retried has another beginning. Attempts that failed while
// a worker's circuit breaker was open are not counted: only the history has them.
const failedSQL = `case when (d.state = 'retrying' and d.attempt > 0 or d.state = 'running' and d.attempt > 1
           or d.state in ('retrying', 'running') and (d.errors -> -1 ->> 'at')::timestamptz > coalesce(d.decided_at, '-infinity'))
     then greatest(d.created_at, d.decided_at) end`

// unfinishedFrom are the deliveries of a subscription that are neither dead nor skipped. Each arm has an index that leads to its rows, past
// dead letters: deliveries_line, deliveries_due, and deliveries_owner for what runs.
const unfinishedFrom = `
    (select d.* from outbox.deliveries d where d.subscription_id = $1 and d.key is not null and d.state in ('retrying', 'running')
     union all
     select d.* from outbox.deliveries d where d.subscription_id = $1 and d.key is null and d.state = 'retrying'
     union all
     select d.* from outbox.deliveries d where d.owner is not null and d.key is null and d.subscription_id + 0 = $1) d`

// Dead letters, which may be many and large, are counted in index deliveries_decide.
const statesSQL = `
select d.state, count(*) from outbox.deliveries d where d.subscription_id = $1 and d.state in ('dead', 'skipped') group by d.state
union all
select d.state, count(*) from ` + unfinishedFrom + ` group by d.state`

// One pass over the unfinished deliveries, and one probe of index deliveries_line.
const unfinishedSQL = `
select o.published_at,
       case when o.state = 'retrying' and exists (
           select from outbox.deliveries h
           where h.subscription_id = $1 and h.lane = o.lane and h.key = o.key and h.event_id < o.event_id
             and h.key is not null and (h.state in ('retrying', 'running') or h.stops_key)) then 'blocked' else o.state end,
       o.failing_since
from (select d.published_at, d.state, d.lane, d.key, d.event_id, min(` + failedSQL + `) over () as failing_since
      from ` + unfinishedFrom + `
      order by d.published_at, d.event_id
      limit 1) o`

// readStatus collects a Status. count counts the deliveries of a subscription.
func readStatus(ctx context.Context, db outbox.DB, count func(id int32, s *SubscriptionStatus) error) (*Status, error) {
	s := &Status{Subscriptions: []SubscriptionStatus{}, Workers: []WorkerStatus{}, Log: LogStatus{HeldBy: []string{}}}
	fault := engine.CheckLog(ctx, db)
	if fault != nil && !errors.Is(fault, outbox.ErrForeignCluster) && !errors.Is(fault, outbox.ErrLogBehind) {
		return nil, fault // with row security, the numbers are not those of the outbox
	}
	if err := s.readSubscriptions(ctx, db, count); err != nil {
		return nil, fmt.Errorf("read subscriptions: %w", err)
	}
	if err := s.readWorkers(ctx, db); err != nil {
		return nil, fmt.Errorf("read workers: %w", err)
	}
	err := db.QueryRow(ctx, oldestSQL).Scan(&s.Log.OldestID, &s.Log.OldestAt, &s.Log.HeldBy)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("look for the oldest event: %w", err)
	}
	if err := db.QueryRow(ctx, `select clock_timestamp(), `+engine.HeadSQL).Scan(&s.At, &s.Log.LastID); err != nil {
		return nil, fmt.Errorf("read the last id: %w", err)
	}
	s.Concerns = s.findConcerns()
	switch {
	case errors.Is(fault, outbox.ErrForeignCluster):
		s.Concerns = slices.Insert(s.Concerns, 0, Concern{Kind: ConcernForeign})
	case errors.Is(fault, outbox.ErrLogBehind):
		s.Concerns = slices.Insert(s.Concerns, 0, Concern{Kind: ConcernBehind})
	}
	return s, nil
}

// The first event of each lane, by index events_lane_id from where events are left, and the first one of those.
const oldestSQL = `
with oldest as materialized (
    select e.*
    from outbox.trimmed t
    cross join lateral (
        select e.lane, e.id, e.xid, e.key, e.published_at from outbox.events e where e.lane = t.lane and e.id > t.up_to order by e.id limit 1
    ) e
    order by e.id
    limit 1
), cursors as materialized (` + engine.CursorsSQL + `
    where l.lane = (select o.lane from oldest o)
)
select e.id, e.published_at,
       array(select s.name
             from cursors c join outbox.subscriptions s on s.id = c.subscription_id
             where ` + engine.UnsettledSQL + `
             order by s.name)
from oldest e`

// lagScan is how many events of a subscription are counted before the rest is estimated.
const lagScan = 10_000

// Events past the cursors come from index events_lane_id and end at the limit; those of transactions that were pending when
// the cursors passed them, and have committed since, from index events_xid_id; those of held keys from the place in each lane where
// the first of them is held.
const lagSQL = `
with cursors as materialized (` + engine.CursorsSQL + `
    where l.subscription_id = $1
), ended as materialized (
    select distinct x.xid
    from (select distinct c.pending + c.late as xids from cursors c) c, unnest(c.xids) as r,
         generate_series(lower(r), upper(r) - 1) as x (xid)
    where pg_visible_in_snapshot(x.xid::text::xid8, pg_current_snapshot())
), scanned as materialized (
    (select e.topic ~ $2 as wanted, e.published_at
     from ended x
     cross join lateral (
         select e.id, e.lane, e.topic, e.published_at
         from outbox.events e
         where e.xid = x.xid::text::xid8 and e.id > (select max(k.floor) from outbox.cluster k)
         order by e.id
         limit $3
     ) e
     join cursors c on c.lane = e.lane and e.id <= c.after_id
                   and (c.pending @> x.xid or c.late @> x.xid and e.id > c.late_after_id)
     limit $3)
    union all
    (select e.topic ~ $2, e.published_at
     from cursors c
     cross join lateral (
         select e.topic, e.published_at
         from outbox.events e
         where e.lane = c.lane and e.id > c.after_id
         order by e.id
         limit $3
     ) e
     limit $3)
    union all
    (select e.topic ~ $2 and exists (select from outbox.held_keys h
                                     where h.subscription_id = $1 and h.lane = e.lane and h.key = e.key and h.from_id <= e.id),
            e.published_at
     from (select h.lane, min(h.from_id) as from_id from outbox.held_keys h where h.subscription_id = $1 group by h.lane) l
     join cursors c on c.lane = l.lane
     cross join lateral (
         select e.id, e.lane, e.key, e.topic, e.published_at
         from outbox.events e
         where e.lane = l.lane and e.id >= l.from_id and e.id <= c.after_id
         order by e.id
         limit $3
     ) e
     limit $3)
)
select count(*), count(*) filter (where s.wanted),
       (select coalesce(sum(greatest(h.id - c.after_id, 0)), 0)::bigint / $4 from cursors c, (select ` + engine.HeadSQL + ` as id) h),
       min(s.published_at) filter (where s.wanted),
       least(min(s.published_at), (select min(f.published_at)
                                   from cursors c
                                   cross join lateral (select e.published_at from outbox.events e where e.lane = c.lane and e.id > c.after_id order by e.id limit 1) f)),
       clock_timestamp()
from scanned s`

// Of each key, all that are retrying are blocked but the head, if it is one of them. One pass over the table, like the count of
// states: the order of index deliveries_line would cost several times that.
const blockedSQL = `
select coalesce(sum(k.waiting - case when k.head = k.first_waiting then 1 else 0 end), 0)::bigint
from (select count(*) filter (where d.state = 'retrying') as waiting, min(d.event_id) as head,
             min(d.event_id) filter (where d.state = 'retrying') as first_waiting
      from outbox.deliveries d
      where d.subscription_id = $1 and d.key is not null and (d.state in ('retrying', 'running') or d.stops_key)
      group by d.key) k`

// breakerSQL is when the breaker of subscription s opened, and for which topics. A worker without lanes tries nothing, so its breaker stays
// as it is and says nothing.
const breakerSQL = `
select min(m.breaker_opened_at) as opened_at,
       case when bool_and(m.breaker_topics <> '{}') then array_agg(distinct t.topic order by t.topic) end as topics
from outbox.members m
join outbox.workers w on w.id = m.worker_id
left join lateral unnest(m.breaker_topics) as t (topic) on true
where m.subscription_id = s.id and m.breaker_opened_at is not null and ` + engine.LiveSQL + `
  and exists (select from outbox.lanes l where l.owner = m.worker_id and l.subscription_id = s.id)`

// notesSQL is what the live workers of subscription s tell about it.
const notesSQL = `
select string_agg(distinct m.sends_to, ', ') as sends_to, coalesce(sum(m.in_flight), 0)::bigint as in_flight,
       (array_agg(m.last_failure order by m.last_failure_at desc nulls last))[1] as last_failure, max(m.last_failure_at) as last_failure_at,
       coalesce(sum(m.full_lanes), 0)::bigint as full_lanes
from outbox.members m
join outbox.workers w on w.id = m.worker_id
where m.subscription_id = s.id and ` + engine.LiveSQL + `
`

func (s *Status) readSubscriptions(ctx context.Context, db outbox.DB, count func(id int32, s *SubscriptionStatus) error) error {
	rows, _ := db.Query(ctx, `select s.id, s.name, s.topics, s.paused_at, h.handled_at, k.keys, k.since, b.opened_at, b.topics,
		       coalesce(n.sends_to, ''), n.in_flight, n.last_failure, n.last_failure_at, n.full_lanes
		from outbox.subscriptions s join (`+engine.HandledSQL+`) h on h.id = s.id
		cross join lateral (select count(*) as keys, min(k.held_at) as since from outbox.held_keys k where k.subscription_id = s.id) k
		cross join lateral (`+breakerSQL+`) b
		cross join lateral (`+notesSQL+`) n
		order by s.name`)
	type subscription struct {
		ID            int32
		Name          string
		Topics        []string
		Paused        *time.Time
		Handled       *time.Time
		HeldKeys      int64
		HeldSince     *time.Time
		BreakerOpened *time.Time
		BreakerTopics []string
		SendsTo       string
		InFlight      int64
		LastFailure   *string
		LastFailureAt *time.Time
		FullLanes     int64
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[subscription])
	if err != nil {
		return err
	}
	for _, sub := range list {
		status := SubscriptionStatus{
			Name: sub.Name, Topics: sub.Topics, PausedAt: sub.Paused, HandledAt: sub.Handled, Deliveries: map[outbox.State]int64{}, Lanes: map[int64]int{},
			HeldKeys: sub.HeldKeys, HeldSince: sub.HeldSince, BreakerOpenedAt: sub.BreakerOpened, BreakerTopics: append([]string{}, sub.BreakerTopics...),
			SendsTo: sub.SendsTo, InFlight: sub.InFlight, FullLanes: sub.FullLanes,
		}
		if sub.LastFailure != nil && sub.LastFailureAt != nil {
			status.LastFailure = &LastFailure{At: *sub.LastFailureAt, Error: *sub.LastFailure}
		}
		var (
			scanned, wanted, beyond int64
			oldest, unread          *time.Time
			now                     time.Time
		)
		err := db.QueryRow(ctx, lagSQL, sub.ID, topic.Patterns(sub.Topics).Regex(), lagScan, engine.Lanes).Scan(&scanned, &wanted, &beyond, &oldest, &unread, &now)
		if err != nil {
			return err
		}
		if status.Lag.Events = wanted; scanned >= lagScan {
			status.Lag.Estimated = true
			// Where none of those looked at is wanted, up to one in so many may be: it is not known that nothing waits.
			status.Lag.Events = max(wanted, int64(float64(beyond)*float64(max(wanted, 1))/float64(scanned)), 1)
			oldest = unread
		}
		if oldest != nil {
			status.Lag.Seconds = now.Sub(*oldest).Seconds()
			status.holds(OldestEvent{PublishedAt: *oldest, State: Unread})
		}
		if err := count(sub.ID, &status); err != nil {
			return err
		}
		if err := countBy(ctx, db, status.Lanes, `
			select coalesce(w.id, 0), count(*)
			from outbox.lanes l left join outbox.workers w on w.id = l.owner and `+engine.LiveSQL+`
			where l.subscription_id = $1 group by w.id`, sub.ID); err != nil {
			return err
		}
		s.Subscriptions = append(s.Subscriptions, status)
	}
	return nil
}

func countBy[K ~string | int64, N int | int64](ctx context.Context, db outbox.DB, counts map[K]N, sql string, args ...any) error {
	rows, _ := db.Query(ctx, sql, args...)
	var (
		name K
		n    N
	)
	_, err := pgx.ForEachRow(rows, []any{&name, &n}, func() error {
		counts[name] = n
		return nil
	})
	return err
}

func (s *Status) readWorkers(ctx context.Context, db outbox.DB) error {
	rows, _ := db.Query(ctx, `
		with locks as materialized (
		    select l.pid, l.classid, l.objid, l.mode
		    from pg_locks l
		    where l.locktype = 'advisory' and l.objsubid = 2 and l.granted and l.classid in (`+engine.LockClass+`, `+engine.WorkerLockClass+`)
		      and l.database = (select d.oid from pg_database d where d.datname = current_database())
		)
		select w.id, w.name, w.started_at, w.seen_at, `+engine.LiveSQL+`,
		       `+engine.LiveSQL+` and exists (select from locks mine join locks l on l.pid = mine.pid
		               where mine.classid = `+engine.WorkerLockClass+` and mine.objid::bigint = (w.id & x'7fffffff'::bigint)
		                 and l.classid = `+engine.LockClass+` and l.objid = $1),
		       array(select s.name from outbox.members m join outbox.subscriptions s on s.id = m.subscription_id
		             where m.worker_id = w.id and (m.topics = s.topics or s.topics_to is not null) order by s.name)
		from outbox.workers w
		order by w.id`, engine.LockSentinel)
	workers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[WorkerStatus])
	if err != nil {
		return err
	}
	s.Workers = append(s.Workers, workers...)

	var armed bool
	err = db.QueryRow(ctx, `
		select exists (select from pg_locks l
		               where l.locktype = 'advisory' and l.objsubid = 2 and l.granted and l.classid = `+engine.LockClass+` and l.objid = $1
		                 and l.mode = 'ExclusiveLock'
		                 and l.database = (select d.oid from pg_database d where d.datname = current_database()))`,
		engine.LockBell).Scan(&armed)
	s.Doorbell = DoorbellUnattended // also while a frozen sentinel holds the bell's lock
	if slices.ContainsFunc(workers, func(w WorkerStatus) bool { return w.Sentinel }) {
		if s.Doorbell = DoorbellPolling; armed {
			s.Doorbell = DoorbellArmed
		}
	}
	return err
}
