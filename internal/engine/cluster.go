package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// checkSQL asks which of the tables that readers and settles rely on are not shown as a whole, and what is wrong with the
// log. Workers ask it every few seconds, so it is one statement.
const checkSQL = `
select quote_ident(current_user), array(select t.name from unnest(array[
           'outbox.events', 'outbox.subscriptions', 'outbox.workers', 'outbox.members', 'outbox.lanes', 'outbox.progress', 'outbox.deliveries', 'outbox.held_keys',
           'outbox.cluster', 'outbox.trimmed', 'outbox.topic_changes', 'outbox.features']) as t (name) where row_security_active(t.name)),
       outbox.fault()`

// A querier is a connection, a pool or a transaction of pgx.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// A HiddenError says which tables row security hides from which role. It is an outbox.ErrRowSecurity.
type HiddenError struct {
	Role   string
	Tables []string // qualified with their schema
}

func (e *HiddenError) Error() string {
	return fmt.Sprintf(`row security hides rows of %s from role %s: run "alter role %s bypassrls", or "alter table %s disable row level security"`,
		strings.Join(e.Tables, ", "), e.Role, e.Role, e.Tables[0])
}

// Is reports whether target is outbox.ErrRowSecurity.
func (e *HiddenError) Is(target error) bool { return target == outbox.ErrRowSecurity }

// CheckLog returns outbox.ErrForeignCluster, outbox.ErrLogBehind or outbox.ErrRowSecurity when something is wrong with the log as a
// whole: readers would repeat or miss events. It takes a millisecond. Safe for concurrent use as far as db is.
func CheckLog(ctx context.Context, db querier) error {
	var (
		role   string
		hidden []string
		fault  *string
	)
	if err := db.QueryRow(ctx, checkSQL).Scan(&role, &hidden, &fault); err != nil {
		return fmt.Errorf("check the log: %w", err)
	}
	switch {
	case len(hidden) > 0:
		return &HiddenError{Role: role, Tables: hidden}
	case fault == nil:
	case *fault == "foreign":
		return naming.For(db).Advised(outbox.ErrForeignCluster)
	default:
		return naming.For(db).Advised(outbox.ErrLogBehind)
	}
	return nil
}

// Mended says what [Mend] found to do.
type Mended struct {
	Adopted   bool  // the transaction ids were from elsewhere
	Raised    bool  // a sequence was behind
	Published int64 // events that were published meanwhile, below cursors at first, and were published anew
}

// Mend makes what CheckLog complains about right, except for row security. Safe to call at any time, from any number of processes.
//
// It adopts a log whose transaction ids are from elsewhere: events of transactions that cursors were still waiting for become
// deliveries; from then on no stored transaction id of the old cluster is compared with one of the new. It raises sequences that are
// behind, and gives events that were published meanwhile new ids, in the order of the old ones: else those below the cursors would be
// lost, or come after later ones of their keys.
func Mend(ctx context.Context, conn naming.Conn) (Mended, error) {
	err := CheckLog(ctx, conn)
	if !errors.Is(err, outbox.ErrForeignCluster) && !errors.Is(err, outbox.ErrLogBehind) {
		return Mended{}, err
	}
	var m Mended
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		// Others that mend wait here. With publishers waiting, every id up to the last one is committed, or never will be.
		for _, table := range []string{"cluster", "events"} {
			if _, err := tx.Exec(ctx, `lock table outbox.`+table+` in share row exclusive mode`); err != nil {
				return err
			}
		}
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
			m.Published, err = raise(ctx, tx)
		}
		return err
	})
	if err != nil {
		return Mended{}, fmt.Errorf("mend the outbox: %w", err)
	}
	return m, nil
}

// adopt makes the log this cluster's own. Nothing can be published meanwhile.
func adopt(ctx context.Context, tx pgx.Tx) error {
	// The workers in the dump are not here.
	rows, _ := tx.Query(ctx, `select w.id from outbox.workers w`)
	workers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	for _, id := range workers {
		if _, err := remove(ctx, tx, id, "the outbox was moved to another server"); err != nil {
			return err
		}
	}
	if err := adoptLate(ctx, tx); err != nil {
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
		select p.system_identifier, array['outbox.events'::regclass::oid, 'outbox.topic'::regtype::oid],
		       coalesce((select max(e.id) from outbox.events e), 0), (select max(g.behind_since) from gone g)
		from pg_control_system() p`)
	return err
}

// raise lets every sequence go on after what its table and others have of it, and gives events that were published while the ids were
// behind new ones. It returns how many. Nothing can be published meanwhile.
func raise(ctx context.Context, tx pgx.Tx) (astray int64, err error) {
	var passed int64 // the highest cursor
	err = tx.QueryRow(ctx, `
		select greatest((select max(l.after_id) from outbox.lanes l),
		                (select max(u.after_id) from outbox.progress p, unnest(p.after_ids) as u (after_id)),
		                (select max(d.event_id) from outbox.deliveries d), 0)`).Scan(&passed)
	if err != nil {
		return 0, err
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
			return 0, err
		}
	}
	// What was published since then is below a cursor, or behind something of its key that is. Copies get ids beyond all cursors.
	tag, err := tx.Exec(ctx, `
		with astray as (
		    delete from outbox.events e
		    using outbox.cluster c
		    where e.published_at > c.behind_since
		    returning e.*
		)
		insert into outbox.events (topic, key, payload, headers, published_at)
		select a.topic, a.key, a.payload, a.headers, a.published_at from astray a order by a.id`)
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `update outbox.cluster c set behind_since = null where c.behind_since is not null`)
	return tag.RowsAffected(), err
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
			where l.subscription_id = $1 and e.topic ~ $2
			  and not exists (select from outbox.held_keys h
			                  where h.subscription_id = $1 and h.lane = e.lane and h.key = e.key and h.from_id <= e.id)
			on conflict do nothing`, s.ID, topic.Patterns(s.Topics).Regex()); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `update outbox.lanes l set pending = '{}', late = '{}', late_after_id = 0`)
	return err
}
