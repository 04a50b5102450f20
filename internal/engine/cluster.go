package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/outbox"
)

// CheckCluster returns ErrForeignCluster when the transaction ids in the log are another cluster's: readers that compare
// them with those of this one would repeat or miss events.
func CheckCluster(ctx context.Context, db outbox.DB) error {
	var same bool
	err := db.QueryRow(ctx, `
		select c.system_identifier = p.system_identifier from outbox.cluster c, pg_control_system() p`).Scan(&same)
	if err != nil {
		return fmt.Errorf("check cluster: %w", err)
	}
	if !same {
		return outbox.ErrForeignCluster
	}
	return nil
}

// Adopt makes a restored log this cluster's own, and reports whether there was anything to do. Events of transactions
// that cursors were still waiting for become deliveries; from then on no stored transaction id of the old cluster is
// compared with one of the new. Safe to call at any time, from any number of processes.
func Adopt(ctx context.Context, conn *pgx.Conn) (bool, error) {
	if err := CheckCluster(ctx, conn); !errors.Is(err, outbox.ErrForeignCluster) {
		return false, err
	}
	adopted := false
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		var same bool
		err := tx.QueryRow(ctx, `
			select c.system_identifier = p.system_identifier from outbox.cluster c, pg_control_system() p for update of c`).Scan(&same)
		if err != nil || same {
			return err
		}
		// With publishers waiting, every id up to the last one is committed, or never will be.
		if _, err := tx.Exec(ctx, `lock table outbox.events in share row exclusive mode`); err != nil {
			return err
		}
		// The workers in the dump are not here.
		rows, _ := tx.Query(ctx, `select w.id from outbox.workers w`)
		workers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		for _, id := range workers {
			if _, err := remove(ctx, tx, id); err != nil {
				return err
			}
		}
		if err := adoptLate(ctx, tx); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			update outbox.cluster c
			set system_identifier = p.system_identifier, floor = coalesce((select max(e.id) from outbox.events e), 0)
			from pg_control_system() p`)
		adopted = err == nil
		return err
	})
	if err != nil {
		return false, fmt.Errorf("adopt the outbox: %w", err)
	}
	return adopted, nil
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
			on conflict do nothing`, s.ID, topic.Patterns(s.Topics).Regex()); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `update outbox.lanes l set pending = '{}', late = '{}', late_after_id = 0`)
	return err
}
