package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Settlement is what became of a window and of the deliveries that ran beside it. All of it is recorded in one
// transaction, or nothing.
type Settlement struct {
	// Window is the last one whose events are all handled, or among Unfinished. It covers those that were read before
	// it. Nil records no progress.
	Window *Window
	// Unfinished are events of windows that become deliveries.
	Unfinished []Unfinished
	// Holds are keys that are held from events of these windows on.
	Holds []Hold
	// Parked are deliveries that go on beside the windows to come: Running from here on.
	Parked []Unfinished
	// Failed are deliveries that did not succeed, or did not get to run.
	Failed []Unfinished
	// Delivered are the ids of deliveries that succeeded. Their rows are deleted.
	Delivered []int64
	// Handled is how many events of windows succeeded without a row of their own: they are counted, beside Delivered.
	Handled int64
}

// Empty reports whether there is nothing to record.
func (s *Settlement) Empty() bool {
	return s.Window == nil && s.OnlyProgress()
}

// OnlyProgress reports whether s has nothing to do with deliveries, which others may have locked.
func (s *Settlement) OnlyProgress() bool {
	return len(s.Unfinished) == 0 && len(s.Holds) == 0 && len(s.Parked) == 0 && len(s.Failed) == 0 && len(s.Delivered) == 0
}

// Unfinished is what became of an event that was not delivered: when to try it again, if at all, and why.
type Unfinished struct {
	Event   Event
	State   outbox.State  // Defaults to Retrying
	StopKey bool          // whether the events of its key wait behind it, dead as it is
	Attempt int           // attempts begun so far
	Delay   time.Duration // until the next attempt, by the database's clock
	Failure *Failure      // of the last attempt; nil where none was made, because an earlier event of the key is unfinished

	// InLog says that its delivery gets no copy of the event, for now: the log has that. See copy.go.
	InLog bool

	// ForOthers says that this worker does not know such events, and another one may: see Member.TryForOthers.
	ForOthers bool
}

// One statement for all members that stand at the same place, as they do at the end of the log.
const progressSQL = `
insert into outbox.progress (subscription_id, owner, lanes, after_ids, pending, late, late_after_id, handled, handled_at)
select u.subscription_id, $1, $2, $3, $4, $5, $6, u.handled, case when u.more then statement_timestamp() else u.handled_at end
from unnest($7::integer[], $8::bigint[], $9::boolean[], $10::timestamptz[]) as u (subscription_id, handled, more, handled_at)
returning subscription_id, seq, handled_at`

const pruneSQL = `
delete from outbox.progress p
where p.owner = $1 and p.subscription_id = $2 and p.seq >= $3 and p.seq < $4`

// The events' bytes are in the database already: index events_lane_id finds them.
const unfinishedSQL = `
insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at,
                               state, stops_key, owner, attempt, due_at, errors, for_others)
select $2::integer, e.id, e.lane, e.topic, e.key, case when u.in_log then null else e.payload end, case when u.in_log then null else e.headers end,
       e.published_at, u.state, u.stops_key, case when u.state = 'running' then $1::bigint end, u.attempt, clock_timestamp() + u.delay, u.errors::jsonb,
       u.for_others
from unnest($3::bigint[], $4::smallint[], $5::text[], $6::boolean[], $7::integer[], $8::interval[], $9::text[], $10::boolean[], $11::boolean[])
     as u (id, lane, state, stops_key, attempt, delay, errors, for_others, in_log)
join outbox.events e on e.lane = u.lane and e.id = u.id
on conflict (subscription_id, event_id) do nothing`

// A delivery is its worker's by its owner or, while it is tried for the first time, by its lane's: behind the fence nobody else
// works that. What somebody has decided about one meanwhile stands.
//
// Its plan may be from when there was no delivery at all, so a look-up for each id must be the only way to find them. Asked for one
// subscription, PostgreSQL could as well compare all that it has with each id; and with plain equations of both columns, all there
// is in the order of the primary key. Arrays have no order, and these come with the ids.
const deliveredSQL = `
with settled as materialized (
    select array[$2::integer] as subscription_id, u.id from unnest($3::bigint[]) as u (id)
)
delete from outbox.deliveries d
using settled s
where d.subscription_id = any (s.subscription_id) and d.event_id = s.id and (d.owner = $1 or d.owner is null and d.state = 'retrying')`

const failedSQL = `
with settled as materialized ( -- as in deliveredSQL
    select array[$2::integer] as subscription_id, u.id, u.state, u.stops_key, u.attempt, u.delay, u.errors, u.for_others
    from unnest($3::bigint[], $4::text[], $5::boolean[], $6::integer[], $7::interval[], $8::text[], $9::boolean[])
         as u (id, state, stops_key, attempt, delay, errors, for_others)
)
update outbox.deliveries d
set state = s.state, stops_key = s.stops_key, owner = case when s.state = 'running' then $1::bigint end, suspect = false, attempt = s.attempt,
    due_at = clock_timestamp() + s.delay, for_others = s.for_others,
    -- What waits for another worker is tried without an end: of those attempts, the last one's error stays.
    errors = case when s.for_others and d.for_others then d.errors - -1 else d.errors end || s.errors::jsonb,
    payload = case when s.state in ('dead', 'skipped') then ` + PayloadSQL + ` else d.payload end,
    headers = case when s.state in ('dead', 'skipped') then ` + HeadersSQL + ` else d.headers end
from settled s
where d.subscription_id = any (s.subscription_id) and d.event_id = s.id and (d.owner = $1 or d.owner is null and d.state = 'retrying')`

// settledState is what a member remembers of its rows in outbox.progress.
type settledState struct {
	seq    int64 // first row of the last settle: it and those after it cover all lanes
	pruned int64 // rows below are deleted
	count  int   // settles since

	handled   int64      // events that succeeded since it joined
	more      bool       // whether some of them are in no row yet
	handledAt *time.Time // when a row was written that had more than the one before; nil before the first
}

// pruneEvery is after how many settles a member deletes its old progress rows.
const pruneEvery = 256

// Settle records s behind the fence, in one transaction and one round trip. It returns ErrEvicted when the worker has
// been taken for dead: nothing is recorded then. It returns ErrBusy when it has waited for what others have locked for as long as its
// connections let it: nothing is recorded, and it may be repeated.
func (m *Member) Settle(ctx context.Context, s Settlement) error {
	var next settledState
	queue := func(batch *pgx.Batch) {
		next = m.settled
		m.queueAlone(batch, &s, &next)
	}
	err := ErrBusy
	if s.OnlyProgress() && !m.clears(&s) {
		err = m.inTx(ctx, m.conns.Write, queue)
	}
	if errors.Is(err, ErrBusy) {
		err = m.inTx(ctx, m.conns.Wait, queue)
	}
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	m.didSettle(&s, next)
	return nil
}

// A Progress is a settlement of a member that records progress alone.
type Progress struct {
	Member     *Member
	Settlement Settlement
}

// SettleTogether records the progress of several members of one worker in one transaction and one round trip. It returns ErrBusy when that
// failed and may work for each of them alone: when a lock was not to be had in time, or one of the members is gone. Then nothing is recorded. Its members
// must be used by nothing else meanwhile.
func SettleTogether(ctx context.Context, list []Progress) error {
	list = slices.SortedFunc(slices.Values(list), func(a, b Progress) int { return cmp.Compare(a.Member.subscription, b.Member.subscription) })
	next := make([]settledState, len(list))
	m := list[0].Member
	err := m.conns.Write(ctx, func(conn naming.Conn) error {
		batch := &pgx.Batch{}
		batch.Queue("begin isolation level read committed")
		subscriptions := make([]int32, len(list))
		for i, p := range list {
			subscriptions[i] = p.Member.subscription
		}
		batch.Queue(fenceSQL, m.worker, subscriptions)
		var all spots
		for i, p := range list {
			next[i] = p.Member.settled
			p.Member.queue(batch, &p.Settlement, &next[i], &all)
		}
		all.queue(batch, m.worker)
		batch.Queue("commit")
		return send(ctx, conn, batch)
	})
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused): // it was rolled back
		return fmt.Errorf("settle together: %w: %w", ErrBusy, err)
	case err != nil:
		return fmt.Errorf("settle together: %w", err)
	}
	for i, p := range list {
		p.Member.didSettle(&p.Settlement, next[i])
	}
	return nil
}

// SettleTx records s in a transaction and commits it: what was written in it before and s count both, or neither. The transaction is
// the caller's, at level read committed, on the server that the member reads from: over its connection, or over one that a [ServerLock]
// has shown to reach the same. Nothing may be asked of the member meanwhile.
//
// The fence is taken last, so that a slow handler does not hold up an eviction, and an evicted worker's writes roll back. It returns
// ErrBusy where others have locked what s is about: then the transaction goes on as it was, without the fence, and it may be called again.
func (m *Member) SettleTx(ctx context.Context, tx pgx.Tx, s Settlement) error {
	next := m.settled
	batch, waits := &pgx.Batch{}, !s.OnlyProgress()
	if waits {
		batch.Queue("savepoint signalbox_settle")
		batch.Queue("set local lock_timeout = '2s'")
	}
	batch.Queue(fenceSQL, m.worker, []int32{m.subscription})
	m.queueAlone(batch, &s, &next)
	ours := m.outbox.Tx(tx)
	err := ours.SendBatch(ctx, batch).Close()
	if waits && lockTimedOut(err) {
		if _, failed := ours.Exec(ctx, "rollback to savepoint signalbox_settle"); failed == nil {
			return fmt.Errorf("settle: %w", busy(err))
		}
	}
	if err == nil {
		err = tx.Commit(ctx)
	}
	if err != nil {
		return fmt.Errorf("settle: %w", evicted(err))
	}
	m.didSettle(&s, next)
	return nil
}

// clears reports whether s ends the suspicion: its window had events, which were written down before they were handled.
func (m *Member) clears(s *Settlement) bool {
	return m.Suspect && s.Window != nil && len(s.Window.Events) > 0
}

func (m *Member) didSettle(s *Settlement, next settledState) {
	m.settled = next
	if m.clears(s) {
		m.Suspect = false
	}
}

// queueAlone adds the statements that record s. next is what the member has to remember once they are committed.
func (m *Member) queueAlone(batch *pgx.Batch, s *Settlement, next *settledState) {
	var all spots
	m.queue(batch, s, next, &all)
	all.queue(batch, m.worker)
}

// queue is queueAlone, but for the progress, which it adds to all.
func (m *Member) queue(batch *pgx.Batch, s *Settlement, next *settledState, all *spots) {
	if len(s.Unfinished)+len(s.Parked)+len(s.Failed)+len(s.Delivered) > 0 {
		batch.Queue(readSetup)
	}
	// In this order: an event may get its row, be parked and end in one settlement.
	if u := unfinishedColumns(s.Unfinished); len(u.ids) > 0 {
		batch.Queue(unfinishedSQL, m.worker, m.subscription, u.ids, u.lanes, u.states, u.stops, u.attempts, u.delays, u.errors, u.forOthers, u.inLog)
	}
	if len(s.Holds) > 0 {
		m.queueHolds(batch, s.Holds)
	}
	for _, list := range [][]Unfinished{s.Parked, s.Failed} {
		if u := unfinishedColumns(list); len(u.ids) > 0 {
			batch.Queue(failedSQL, m.worker, m.subscription, u.ids, u.states, u.stops, u.attempts, u.delays, u.errors, u.forOthers)
		}
	}
	if len(s.Delivered) > 0 {
		batch.Queue(deliveredSQL, m.worker, m.subscription, s.Delivered)
	}
	if n := s.Handled + int64(len(s.Delivered)); n > 0 {
		next.handled, next.more = next.handled+n, true
	}
	if s.Window == nil {
		return // the next row has the count
	}
	if m.clears(s) {
		batch.Queue(clearSuspectsSQL, m.worker, m.subscription)
	}
	covered := 0
	for _, c := range s.Window.cursors {
		all.add(c, m.subscription, next)
		covered += len(c.lanes)
	}
	if covered > 0 {
		next.seq, next.more = 0, false // the seq is known once there is a row
	}
	if covered < m.owned {
		return // lanes were claimed since: their rows are older than these, and still count
	}
	if next.count++; next.count >= pruneEvery {
		batch.Queue(pruneSQL, m.worker, m.subscription, m.settled.pruned, m.settled.seq) // the last settle's: this one's is not known yet
		next.pruned, next.count = m.settled.seq, 0
	}
}

// spots are where members stand: what they append to outbox.progress takes a statement for each.
type spots []*spot

// A spot is a cursor that lanes of some members have.
type spot struct {
	cursor        cursor
	subscriptions []int32
	handled       []int64
	more          []bool       // whether the member has handled more than its last row says
	handledAt     []*time.Time // when it wrote the last row that had more
	next          []*settledState
}

func (s *spots) add(c cursor, subscription int32, next *settledState) {
	i := slices.IndexFunc(*s, func(at *spot) bool { return at.cursor.equal(c) })
	if i < 0 {
		i = len(*s)
		*s = append(*s, &spot{cursor: c})
	}
	at := (*s)[i]
	at.subscriptions, at.handled, at.more = append(at.subscriptions, subscription), append(at.handled, next.handled), append(at.more, next.more)
	at.handledAt, at.next = append(at.handledAt, next.handledAt), append(at.next, next)
}

func (s *spots) queue(batch *pgx.Batch, worker int64) {
	for _, spot := range *s {
		c := &spot.cursor
		insert := batch.Queue(progressSQL, worker, c.lanes, c.after, c.pending.multirange(), c.late.multirange(), c.lateAfter,
			spot.subscriptions, spot.handled, spot.more, spot.handledAt)
		insert.Query(func(rows pgx.Rows) error {
			var (
				subscription int32
				seq          int64
				at           *time.Time
			)
			_, err := pgx.ForEachRow(rows, []any{&subscription, &seq, &at}, func() error {
				next := spot.next[slices.Index(spot.subscriptions, subscription)]
				if next.seq == 0 || seq < next.seq {
					next.seq, next.handledAt = seq, at
				}
				return nil
			})
			return err
		})
	}
}

type unfinished struct {
	ids      []int64
	lanes    []int16
	states   []string
	stops    []bool
	attempts []int32
	delays   []time.Duration
	errors   []string

	forOthers, inLog []bool
}

func unfinishedColumns(list []Unfinished) (u unfinished) {
	for _, item := range list {
		failures := []Failure{}
		if item.Failure != nil {
			failures = append(failures, *item.Failure)
		}
		raw, _ := json.Marshal(failures) // strings, numbers and a time: cannot fail
		u.ids = append(u.ids, item.Event.ID)
		u.lanes = append(u.lanes, item.Event.Lane)
		if item.State == "" {
			item.State = outbox.Retrying
		}
		u.states = append(u.states, string(item.State))
		u.stops = append(u.stops, item.StopKey)
		u.attempts = append(u.attempts, int32(item.Attempt))
		u.delays = append(u.delays, item.Delay)
		u.errors = append(u.errors, string(raw))
		u.forOthers = append(u.forOthers, item.ForOthers)
		u.inLog = append(u.inLog, item.InLog && item.State != outbox.Dead && item.State != outbox.Skipped)
	}
	return u
}

// A Failure is a failed attempt, as it is recorded in its delivery: see admin.Failure.
type Failure struct {
	Attempt int       `json:"attempt"`
	At      time.Time `json:"at"`
	Worker  string    `json:"worker"`
	Error   string    `json:"error"`
}
