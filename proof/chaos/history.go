package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// historySQL keeps what the product forgets: who joined, what was settled, and which lanes changed hands. The triggers write in the
// transaction that they tell of, so what they say is what was committed. It has the place for the effects of the handler in
// a transaction, too: without a unique index, which would hide what it has to find.
const historySQL = `
create schema chaos;
create table chaos.effects (place bigint generated always as identity (cache 1), subscription smallint not null, number bigint not null);
create table chaos.joined (worker_id bigint, name text, at timestamptz);
create table chaos.settled (like outbox.progress);
create table chaos.lanes (like outbox.lanes, at timestamptz);
create table chaos.evicted (worker_id bigint, at timestamptz);

create function chaos.note_joined() returns trigger language plpgsql as $$
begin insert into chaos.joined values (new.id, new.name, clock_timestamp()); return null; end $$;
create trigger chaos_joined after insert on outbox.workers for each row execute function chaos.note_joined();

create function chaos.note_evicted() returns trigger language plpgsql as $$
begin insert into chaos.evicted values (old.id, clock_timestamp()); return null; end $$;
create trigger chaos_evicted after delete on outbox.workers for each row execute function chaos.note_evicted();

create function chaos.note_settled() returns trigger language plpgsql as $$
begin insert into chaos.settled select new.*; return null; end $$;
create trigger chaos_settled after insert on outbox.progress for each row execute function chaos.note_settled();

create function chaos.note_lane() returns trigger language plpgsql as $$
begin insert into chaos.lanes select new.*, clock_timestamp(); return null; end $$;
create trigger chaos_lane after update on outbox.lanes for each row execute function chaos.note_lane();`

// sessionsSQL has a row for each session and subscription: when it began, and when it settled for the last time but one. A settle may
// be under way while the next window is handled, and does not cover that; the one after it does. Claims write progress, too,
// and settle nothing: they come after a settle of all that was handled, so they do no harm.
const sessionsSQL = `
select j.name, j.worker_id, j.at, s.name, (array_agg(p.at order by p.at desc))[2]
from chaos.joined j
left join (select p.owner, p.subscription_id, max(p.at) as at
           from chaos.settled p
           group by p.owner, p.subscription_id, p.xmin::text) p on p.owner = j.worker_id
left join outbox.subscriptions s on s.id = p.subscription_id
group by j.name, j.worker_id, j.at, s.name
order by j.worker_id`

// readSessions reads who served when, and how long its work was recorded.
func readSessions(ctx context.Context, db *pgxpool.Pool) ([]session, error) {
	offset := wallOffset()
	mono := func(t time.Time) time.Duration { return time.Duration(t.UnixNano()) - offset }
	var (
		sessions []session
		current  int64
		name     string
		worker   int64
		joined   time.Time
		sub      *string
		settled  *time.Time
	)
	rows, _ := db.Query(ctx, sessionsSQL)
	_, err := pgx.ForEachRow(rows, []any{&name, &worker, &joined, &sub, &settled}, func() error {
		if worker != current {
			one := session{from: mono(joined)}
			if _, err := fmt.Sscanf(name, workerName, &one.process); err != nil {
				return fmt.Errorf("worker %q is none of ours", name)
			}
			sessions, current = append(sessions, one), worker
		}
		for s := range subscriptions {
			if sub != nil && settled != nil && *sub == subscriptions[s].name {
				sessions[len(sessions)-1].settled[s] = mono(*settled)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the history of workers: %w", err)
	}
	return sessions, nil
}

// numberSQL is the ledger's number of an event e.
const numberSQL = `coalesce((%[1]s.payload ->> 'number')::bigint, (%[1]s.payload ->> 'value')::double precision::bigint)`

// readLog reads which events are in the log.
func readLog(ctx context.Context, db *pgxpool.Pool) (map[int64]bool, error) {
	in := map[int64]bool{}
	rows, _ := db.Query(ctx, `select `+fmt.Sprintf(numberSQL, "e")+` from outbox.events e`)
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&n}, func() error { in[n] = true; return nil }); err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	return in, nil
}

func readEffects(ctx context.Context, db *pgxpool.Pool) (effects [len(subscriptions)][]int64, err error) {
	rows, _ := db.Query(ctx, `select f.subscription, f.number from chaos.effects f order by f.place`)
	var (
		s      int
		number int64
	)
	if _, err := pgx.ForEachRow(rows, []any{&s, &number}, func() error {
		effects[s] = append(effects[s], number)
		return nil
	}); err != nil {
		return effects, fmt.Errorf("read the effects: %w", err)
	}
	return effects, nil
}

// readKept reads what is kept as dead or skipped, and counts what is unfinished as neither.
func readKept(ctx context.Context, db *pgxpool.Pool) (kept [len(subscriptions)]map[int64]string, err error) {
	for s := range kept {
		kept[s] = map[int64]string{}
	}
	rows, _ := db.Query(ctx, `
		select s.name, d.state, `+fmt.Sprintf(numberSQL, "d")+`
		from outbox.deliveries d join outbox.subscriptions s on s.id = d.subscription_id
		where d.state in ('dead', 'skipped')`)
	var (
		name, state string
		number      int64
	)
	if _, err := pgx.ForEachRow(rows, []any{&name, &state, &number}, func() error {
		for s := range subscriptions {
			if subscriptions[s].name == name {
				kept[s][number] = state
			}
		}
		return nil
	}); err != nil {
		return kept, fmt.Errorf("read what is kept: %w", err)
	}
	return kept, nil
}

// The history of an event, for one subscription. Of its lane it has what was settled around the moment when the cursor passed
// the event, and of the transaction ids that were pending then, only whether its own was among them.
var historyQueries = []struct{ title, sql string }{
	{"in the log", `
		select format('id %s  lane %s  xid %s  topic %s  key %s  published %s', e.id, e.lane, e.xid, e.topic, e.key, e.published_at)
		from outbox.events e where e.id = $1 and $2::text is not null`},
	{"delivery", `
		select format('%s  attempt %s  due %s  owner %s  suspect %s  errors %s', d.state, d.attempt, d.due_at, d.owner, d.suspect, d.errors)
		from outbox.deliveries d join outbox.subscriptions s on s.id = d.subscription_id where d.event_id = $1 and s.name = $2`},
	{"its lane changed hands", `
		select format('%s  owner %s  cursor %s  its transaction %s', l.at, coalesce(l.owner::text, 'nobody'), l.after_id,
		              case when (l.pending + l.late) @> e.xid::text::bigint then 'pending' else 'not pending' end)
		from chaos.lanes l join outbox.subscriptions s on s.id = l.subscription_id join outbox.events e on e.id = $1 and e.lane = l.lane
		where s.name = $2 and l.at between e.published_at - interval '30 seconds' and e.published_at + interval '60 seconds'
		order by l.at`},
	{"cursors around it", `
		select format('%s  progress %s  owner %s (%s)  cursor %s  its transaction %s', p.at, p.seq, p.owner, j.name, u.after_id,
		              case when p.pending @> e.xid::text::bigint then 'pending' when p.late @> e.xid::text::bigint
		                   then 'late after ' || p.late_after_id else 'not pending' end)
		from outbox.events e
		join outbox.subscriptions s on s.name = $2
		join chaos.settled p on p.subscription_id = s.id
		left join chaos.joined j on j.worker_id = p.owner
		cross join lateral unnest(p.lanes, p.after_ids) as u (lane, after_id)
		where e.id = $1 and u.lane = e.lane and p.at between e.published_at - interval '3 seconds' and e.published_at + interval '20 seconds'
		order by p.seq
		limit 60`},
}

// A historian tells what is known of an event.
type historian struct {
	db      *pgxpool.Pool
	ledger  *ledger
	reports []report
	faults  []injected
	out     io.Writer
}

// tell writes the whole history of an event that has a problem.
func (h *historian) tell(ctx context.Context, p problem) error {
	name := "the log"
	if p.subscription >= 0 {
		name = subscriptions[p.subscription].name
	}
	fmt.Fprintf(h.out, "\nEvent %d of %s %s.\n", p.number, name, p.what)
	if p.number < 1 || p.number > int64(len(h.ledger.entries)) {
		fmt.Fprintln(h.out, "  ledger: nobody ever published it")
		return nil
	}
	e := h.ledger.entries[p.number-1]
	fmt.Fprintf(h.out, "  ledger: transaction %d from %v to %v, %v; topic %v, key %q, number %d of it, act %d\n",
		e.transaction, e.began, e.ended, e.outcome, e.topic, h.ledger.keyName(e.key), e.seq, e.act)
	for _, r := range h.reports {
		if r.number == p.number {
			fmt.Fprintf(h.out, "  handled: %s by process %d from %v to %v: %c\n", subscriptions[r.subscription].name, r.process, r.began, r.at, r.what)
		}
	}
	for _, f := range h.faults {
		if f.from < e.ended+15*time.Second && f.to > e.began-5*time.Second {
			fmt.Fprintf(h.out, "  fault: %s from %v to %v\n", f.kind, f.from, f.to)
		}
	}
	rows, _ := h.db.Query(ctx, `select e.id from outbox.events e where `+fmt.Sprintf(numberSQL, "e")+` = $1`, p.number)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("look for an event: %w", err)
	}
	for _, id := range ids {
		for _, q := range historyQueries {
			rows, _ := h.db.Query(ctx, q.sql, id, name)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[*string])
			if err != nil {
				return fmt.Errorf("tell an event's history: %w", err)
			}
			for _, line := range lines {
				fmt.Fprintf(h.out, "  %s: %s\n", q.title, strings.TrimSpace(*line))
			}
		}
	}
	return nil
}
