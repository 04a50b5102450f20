package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// DeliveryGroups is what a search of some deliveries found.
type DeliveryGroups struct {
	Groups []DeliveryGroup // by error, the most frequent ones first
	Count  int64           // how many match
	IDs    []int64         // of the events of those that match, the first ones by id
	Next   int64           // the After of what follows; 0 where there is nothing left to search
}

// A DeliveryGroup is what failed with the same error.
type DeliveryGroup struct {
	Error  string `json:"error"`  // the first line of the last failure; "" for those without one
	Events int64  `json:"events"` // how many of them
	First  int64  `json:"first"`  // id of the first event
	Last   int64  `json:"last"`   // id of the last event
}

// ListDeliveryGroups searches no more than 20,000 deliveries in the states of a filter, and groups those that match by their error: up
// to limit groups, and as many of their ids, from 1 on. So it takes some milliseconds, however many there are and however few match;
// only to find those that are retrying or blocked, it passes all deliveries of the subscription. It returns ErrUnknownSubscription for an
// unknown subscription, and ErrInvalidFilter for an invalid filter. Safe for concurrent use as far as db is.
func ListDeliveryGroups(ctx context.Context, db outbox.Database, f DeliveryFilter, after int64, limit int) (*DeliveryGroups, error) {
	args, err := f.args(after, scanRows, limit)
	if err != nil {
		return nil, err
	}
	var (
		found    DeliveryGroups
		searched int
	)
	err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, f.groupsSQL(), args...).Scan(&searched, &found.Next, &found.Count, &found.IDs, &found.Groups); err != nil || searched > 0 {
			return err
		}
		return checkKnown(ctx, tx, f.Subscription)
	})
	if err != nil {
		return nil, fmt.Errorf("group deliveries of %q: %w", f.Subscription, err)
	}
	if searched < scanRows {
		found.Next = 0
	}
	return &found, nil
}

// groupsSQL names the states, so that the planner sees which index has them: deliveries_decide those that are dead or skipped,
// deliveries_owner those that run. Else it is deliveries_pkey.
func (f DeliveryFilter) groupsSQL() string {
	scope := "d.subscription_id"
	if slices.Equal(f.States, []outbox.State{outbox.Running}) {
		scope = "d.owner is not null and d.subscription_id + 0" // + 0: not by deliveries_pkey
	}
	return `
with looked as materialized (
    select d.event_id, ` + f.where() + ` as wanted, coalesce(split_part(d.errors -> -1 ->> 'error', E'\n', 1), '') as error
    from outbox.deliveries d
    where ` + scope + ` = (select s.id from outbox.subscriptions s where s.name = $1)
      and d.state in ('` + strings.Join(f.stored(), "', '") + `') and d.event_id > $9
    order by d.event_id
    limit $10
)
select (select count(*) from looked), (select coalesce(max(l.event_id), $9) from looked l), (select count(*) from looked l where l.wanted),
       array(select l.event_id from looked l where l.wanted order by l.event_id limit $11),
       (select coalesce(jsonb_agg(g), '[]')
        from (select l.error, count(*) as events, min(l.event_id) as first, max(l.event_id) as last
              from looked l
              where l.wanted
              group by l.error
              order by 2 desc, 1
              limit $11) g)`
}
