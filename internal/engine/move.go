package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Move is how a log came to another server. The zero value is none.
type Move string

// The moves after which a log is adopted.
const (
	PgUpgrade   Move = "pg_upgrade"  // transaction ids go on
	Restore     Move = "restore"     // from a dump, with its schema or into one that was migrated before
	Replication Move = "replication" // logical replication, also of a managed blue/green deployment
)

// A MovedError is returned for a log that came from elsewhere and is not adopted. It is outbox.ErrForeignCluster.
type MovedError struct {
	Likely Move   // as it looks
	Signs  string // why it looks so
}

func (e *MovedError) Error() string {
	others := e.others()
	return fmt.Sprintf(`the outbox came from another server: %s: run "outbox migrate --after %s", or with %s or %s in its place if it was moved so`,
		e.Signs, e.Likely, others[0], others[1])
}

// Is reports whether target is outbox.ErrForeignCluster.
func (e *MovedError) Is(target error) bool { return target == outbox.ErrForeignCluster }

func (e *MovedError) others() (others []Move) {
	for _, m := range []Move{PgUpgrade, Restore, Replication} {
		if m != e.Likely {
			others = append(others, m)
		}
	}
	return others
}

// HowMoved says how a log that CheckLog calls foreign has come here, as far as that shows.
func HowMoved(ctx context.Context, db querier) (*MovedError, error) {
	var replicated, behind bool
	err := db.QueryRow(ctx, `
		select exists (select from outbox.cluster c where c.origin = '00000000-0000-0000-0000-000000000000'),
		       coalesce(pg_sequence_last_value('outbox.events_id_seq'), 0)
		           < greatest((select max(l.after_id) from outbox.lanes l), (select max(e.id) from outbox.events e), 0)`).Scan(&replicated, &behind)
	if err != nil {
		return nil, fmt.Errorf("look how the outbox was moved: %w", err)
	}
	unlike, err := unlikeUpgrade(ctx, db)
	switch {
	case err != nil:
		return nil, err
	case replicated:
		return &MovedError{Replication, "events have arrived by logical replication"}, nil
	case unlike == "":
		return &MovedError{PgUpgrade, "the cluster has another identifier, and tables, rows and transaction ids are the same, as after pg_upgrade"}, nil
	case behind:
		return &MovedError{Replication, "it has transaction ids that are not of here, and its sequences are behind, as when rows alone were copied"}, nil
	}
	return &MovedError{Restore, "it has transaction ids that are not of here, and its sequences are where they belong, as after a dump was restored"}, nil
}

// unlikeUpgrade returns why this cannot be what pg_upgrade leaves, or "". That keeps the oids of tables, and all transaction ids: in the
// rows, which have those of the transactions that wrote them, and in what the next one gets.
func unlikeUpgrade(ctx context.Context, db querier) (string, error) {
	var (
		rows, next, event, waited int64
		kept, rewritten           bool
		replicated                bool
	)
	err := db.QueryRow(ctx, `
		with last as (
		    select e.xid, e.xmin::text as writer
		    from generate_series(0, 63) as l (lane)
		    cross join lateral (select e.xid, e.xmin, e.id from outbox.events e where e.lane = l.lane order by e.id desc limit 1) e
		    where e.id > (select max(c.floor) from outbox.cluster c)
		)
		select count(*), coalesce(bool_and(c.relations = array['outbox.events'::regclass::oid, 'outbox.topic'::regtype::oid]), false),
		       pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
		       coalesce((select e.xid::text::bigint from outbox.events e where e.id > (select max(k.floor) from outbox.cluster k) order by e.xid desc limit 1), 0),
		       coalesce(greatest((select max(greatest(upper(l.pending), upper(l.late))) from outbox.lanes l),
		                         (select max(greatest(upper(p.pending), upper(p.late))) from outbox.progress p)), 0) - 1,
		       exists (select from last group by writer having count(distinct xid) > 1),
		       coalesce(bool_or(c.origin = '00000000-0000-0000-0000-000000000000'), false)
		from outbox.cluster c`).Scan(&rows, &kept, &next, &event, &waited, &rewritten, &replicated)
	switch {
	case err != nil:
		return "", fmt.Errorf("compare transaction ids: %w", err)
	case replicated:
		return "events have arrived by logical replication", nil
	case rows != 1:
		return "the rows of another outbox were added to one that was migrated here", nil
	case !kept:
		return "pg_upgrade keeps the oids of tables, and those of this outbox have changed", nil
	case event >= next:
		return fmt.Sprintf("pg_upgrade keeps transaction ids, but the next one is %d here and an event has %d", next, event), nil
	case waited >= next:
		return fmt.Sprintf("pg_upgrade keeps transaction ids, but the next one is %d here and a cursor waits for %d", next, waited), nil
	case rewritten:
		return "pg_upgrade keeps rows, and events of several transactions were written by one here, as from a dump", nil
	}
	return "", nil
}

// Blind reports whether the identifier of the cluster may not be asked for, so that only other signs tell a log from elsewhere.
func Blind(ctx context.Context, db querier) (blind bool, err error) {
	if err := db.QueryRow(ctx, `select outbox.system_identifier() is null`).Scan(&blind); err != nil {
		return false, fmt.Errorf("ask for the cluster's identifier: %w", err)
	}
	return blind, nil
}

// Mended says what [Mend] found to do.
type Mended struct {
	Adopted   bool  // the transaction ids were from elsewhere
	Raised    bool  // a sequence was behind
	Published int64 // events that were published meanwhile, below cursors at first, and were published anew …
	FirstID   int64 // … with ids from this one on
}

// Mend makes what CheckLog complains about right, except for row security. A log that came from elsewhere is adopted only if the caller
// says how it was moved; otherwise, a *MovedError says how it looks. Safe to call at any time, from any number of processes, while others
// publish: these wait for it, but not after pg_upgrade.
//
// After pg_upgrade, the log's transaction ids go on, if they do. After other moves they are those of another cluster: events of
// transactions that cursors were still waiting for become deliveries; from then on no stored transaction id is compared with one of here.
//
// Mend raises sequences that are behind, and gives events that were published meanwhile new ids, in the order of the old ones: else those
// below the cursors would be lost, or come after later ones of their keys.
func Mend(ctx context.Context, conn naming.Conn, after Move) (Mended, error) {
	var standby bool
	if err := conn.QueryRow(ctx, `select pg_is_in_recovery()`).Scan(&standby); err != nil {
		return Mended{}, fmt.Errorf("mend the outbox: %w", err)
	}
	if standby {
		return Mended{}, ErrStandby
	}
	err := CheckLog(ctx, conn)
	switch {
	case errors.Is(err, outbox.ErrForeignCluster) && after == "":
		moved, err := HowMoved(ctx, conn)
		if err != nil {
			return Mended{}, err
		}
		return Mended{}, naming.For(conn).Advised(moved)
	case errors.Is(err, outbox.ErrForeignCluster) && after == PgUpgrade:
		if err := keepGoing(ctx, conn); err != nil {
			return Mended{}, err
		}
		m, err := Mend(ctx, conn, "")
		m.Adopted = true
		return m, err
	case !errors.Is(err, outbox.ErrForeignCluster) && !errors.Is(err, outbox.ErrLogBehind):
		return Mended{}, err
	}
	var m Mended
	err = inLockedLog(ctx, conn, func(tx pgx.Tx) error {
		m = Mended{}
		err := CheckLog(ctx, tx)
		if errors.Is(err, outbox.ErrForeignCluster) {
			if err = adopt(ctx, tx); err != nil {
				return err
			}
			m.Adopted = true
			err = CheckLog(ctx, tx)
		}
		if errors.Is(err, outbox.ErrLogBehind) {
			m.Raised = true
			err = raise(ctx, tx, &m)
		}
		return err
	})
	if err != nil {
		return Mended{}, fmt.Errorf("mend the outbox: %w", err)
	}
	return m, nil
}

// keepGoing adopts a log after pg_upgrade: cursors stay as they are.
func keepGoing(ctx context.Context, conn naming.Conn) error {
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `lock table outbox.cluster in share row exclusive mode`); err != nil {
			return err
		}
		unlike, err := unlikeUpgrade(ctx, tx)
		switch {
		case err != nil:
			return err
		case unlike != "":
			return fmt.Errorf(`this is not what pg_upgrade leaves: %s: run "outbox migrate" without --after, which says how it looks`, unlike)
		}
		_, err = tx.Exec(ctx, `update outbox.cluster c set system_identifier = outbox.system_identifier()`)
		return err
	})
	if err != nil {
		return naming.For(conn).Advised(fmt.Errorf("adopt the outbox after pg_upgrade: %w", err))
	}
	return nil
}

// A transaction that publishes for longer than lockPatience keeps the log from being locked. Meanwhile the others wait, so it is tried
// lockTries times, with room for them in between.
const (
	lockPatience = "1s"
	lockTries    = 10
)

// inLockedLog calls do in a transaction while nothing is published and nothing else mends: every id up to the last one is committed, or
// never will be.
func inLockedLog(ctx context.Context, conn naming.Conn, do func(pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `set local lock_timeout = '`+lockPatience+`'`); err != nil {
				return err
			}
			for _, table := range []string{"cluster", "events"} {
				if _, err := tx.Exec(ctx, `lock table outbox.`+table+` in share row exclusive mode`); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(ctx, `set local lock_timeout = 0`); err != nil {
				return err
			}
			return do(tx)
		})
		if refused := new(pgconn.PgError); !errors.As(err, &refused) || refused.Code != pgerrcode.LockNotAvailable {
			return err
		}
		if try < lockTries {
			continue
		}
		who, err := publishing(ctx, conn)
		if err != nil {
			return err
		}
		return fmt.Errorf("transactions that published do not end: %s: commit them or roll them back", who)
	}
}

// publishing names the transactions that have published.
func publishing(ctx context.Context, db querier) (string, error) {
	var who string
	err := db.QueryRow(ctx, `
		select coalesce(string_agg(coalesce('pid ' || l.pid, 'prepared ' || quote_literal(p.gid), 'unknown'), ', '), 'none any more')
		from pg_locks l
		left join pg_prepared_xacts p on l.virtualtransaction = '-1/' || p.transaction
		where l.relation = 'outbox.events'::regclass and l.mode = 'RowExclusiveLock' and l.granted
		  and l.database = (select d.oid from pg_database d where d.datname = current_database())`).Scan(&who)
	if err != nil {
		return "", fmt.Errorf("look who publishes: %w", err)
	}
	return who, nil
}

// adopt makes the log this cluster's own after a move that did not keep transaction ids. Nothing can be published meanwhile.
func adopt(ctx context.Context, tx pgx.Tx) error {
	var replicating []string
	if err := tx.QueryRow(ctx, `
		select array(select distinct s.subname::text
		             from pg_subscription s
		             join pg_subscription_rel r on r.srsubid = s.oid
		             join pg_class t on t.oid = r.srrelid
		             where s.subenabled and t.relnamespace = 'outbox'::regnamespace)`).Scan(&replicating); err != nil {
		return err
	}
	if len(replicating) > 0 {
		name := strings.Join(replicating, ", ")
		return fmt.Errorf("logical replication still brings rows: stop the publishers at the old server, wait until all has arrived, and run: alter subscription %s disable", name)
	}
	// The workers in the dump are not here.
	rows, _ := tx.Query(ctx, `select w.id from outbox.workers w`)
	workers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	for _, id := range workers {
		if _, _, err := remove(ctx, tx, id, "the outbox was moved to another server"); err != nil {
			return err
		}
	}
	if err := adoptLate(ctx, tx); err != nil {
		return err
	}
	if err := switchTriggersOn(ctx, tx); err != nil {
		return err
	}
	if err := keepTag(ctx, tx); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		with gone as (
		    delete from outbox.cluster c returning c.*
		)
		insert into outbox.cluster (system_identifier, relations, floor, behind_since)
		select outbox.system_identifier(), array['outbox.events'::regclass::oid, 'outbox.topic'::regtype::oid],
		       coalesce((select max(e.id) from outbox.events e), 0), (select max(g.behind_since) from gone g)`)
	return err
}

// switchTriggersOn lets triggers fire when they should again: pg_restore --disable-triggers ends with all of them as any other.
func switchTriggersOn(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, `
		select format('alter table %s enable %s trigger %I', t.tgrelid::regclass, case t.tgname when 'replicated' then 'replica' else 'always' end, t.tgname)
		from pg_trigger t
		join pg_class c on c.oid = t.tgrelid
		where c.relnamespace = 'outbox'::regnamespace and t.tgenabled = 'O'
		  and t.tgname in ('replicated', 'doorbell', 'keep_ids', 'remember_ids')`)
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// raise lets every sequence go on after what its table and others have of it, and gives events that were published while the ids were
// behind new ones, which it notes. Nothing can be published meanwhile.
func raise(ctx context.Context, tx pgx.Tx, m *Mended) error {
	var passed int64 // the highest cursor
	err := tx.QueryRow(ctx, `
		select greatest((select max(l.after_id) from outbox.lanes l),
		                (select max(u.after_id) from outbox.progress p, unnest(p.after_ids) as u (after_id)),
		                (select max(d.event_id) from outbox.deliveries d), 0)`).Scan(&passed)
	if err != nil {
		return err
	}
	for _, s := range []struct{ sequence, highest string }{
		{"events_id_seq", `greatest($1::bigint, (select max(e.id) from outbox.events e))`},
		{"workers_id_seq", `greatest($1::bigint * 0, (select max(w.id) from outbox.workers w), (select max(p.owner) from outbox.progress p))`},
		{"subscriptions_id_seq", `greatest($1::bigint * 0, (select max(s.id) from outbox.subscriptions s))`},
		{"progress_seq_seq", `greatest($1::bigint * 0, (select max(p.seq) from outbox.progress p))`},
	} {
		// Sequences that are right stay as they are.
		if _, err := tx.Exec(ctx, `
			select setval('outbox.`+s.sequence+`', h.highest)
			from (select `+s.highest+` as highest) h
			where h.highest > coalesce(pg_sequence_last_value('outbox.`+s.sequence+`'), 0)`, passed); err != nil {
			return err
		}
	}
	// What was published since then is below a cursor, or behind something of its key that is. Copies get ids beyond all cursors. What has
	// become a delivery meanwhile keeps what it needs.
	if _, err = tx.Exec(ctx, `
		update outbox.deliveries d
		set payload = e.payload, headers = e.headers
		from outbox.events e, outbox.cluster c
		where d.payload is null and e.lane = d.lane and e.id = d.event_id and e.published_at > c.behind_since`); err != nil {
		return err
	}
	err = tx.QueryRow(ctx, `
		with astray as (
		    delete from outbox.events e
		    using outbox.cluster c
		    where e.published_at > c.behind_since
		    returning e.*
		), anew as (
		    insert into outbox.events (topic, key, payload, headers, published_at)
		    select a.topic, a.key, a.payload, a.headers, a.published_at from astray a order by a.id
		    returning id
		)
		select count(*), coalesce(min(n.id), 0) from anew n`).Scan(&m.Published, &m.FirstID)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `update outbox.cluster c set behind_since = null where c.behind_since is not null`)
	return err
}

// adoptLate turns what cursors still waited for into deliveries, and empties their pending.
func adoptLate(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, `select s.id, s.topics from outbox.subscriptions s`)
	subscriptions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		ID     int32
		Topics []string
	}])
	if err != nil {
		return err
	}
	for _, s := range subscriptions {
		if _, err := tx.Exec(ctx, `
			insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at)
			select $1, e.id, e.lane, e.topic, e.key, e.payload, e.headers, e.published_at, 'retrying', clock_timestamp()
			from outbox.lanes l
			cross join lateral (
			    select r as xids, 0::bigint as after_id from unnest(l.pending) r
			    union all
			    select r, l.late_after_id from unnest(l.late) r
			) late
			join outbox.events e on e.lane = l.lane and e.id <= l.after_id and e.id > late.after_id
			                    and e.xid >= lower(late.xids)::text::xid8 and e.xid < upper(late.xids)::text::xid8
			where l.subscription_id = $1 and e.topic ~ $2 and e.id > (select max(c.floor) from outbox.cluster c)
			  and not exists (select from outbox.held_keys h
			                  where h.subscription_id = $1 and h.lane = e.lane and h.key = e.key and h.from_id <= e.id)
			on conflict do nothing`, s.ID, topic.Patterns(s.Topics).Regex()); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `update outbox.lanes l set pending = '{}', late = '{}', late_after_id = 0`)
	return err
}
