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

// LookMost is how many deliveries [LookAtDeliveries] looks at: 20,000.
const LookMost = scanRows

// A DeliveryLook is what a look at some deliveries found.
type DeliveryLook struct {
	IDs    []int64         // of the events of those that match, the first ones by id
	Count  int64           // how many match
	Groups []DeliveryGroup // those by their error, the most frequent ones first
	Last   int64           // id of the last one that was looked at: where the next look goes on
	Done   bool            // there are no others to look at
}

// A DeliveryGroup is what failed with the same error.
type DeliveryGroup struct {
	Error  string `json:"error"`  // the first line of the last failure; "" for those without one
	Events int64  `json:"events"` // how many of them
	First  int64  `json:"first"`  // id of the first event
	Last   int64  `json:"last"`   // id of the last event
}

// LookAtDeliveries looks at no more than LookMost deliveries in the states of a filter that come after an id, and says which
// of them match: up to limit of their ids, and as many groups. So it takes some milliseconds, however many there are and
// however few match; only to find those that are retrying or blocked, it looks at all deliveries of the subscription. Safe for concurrent use.
func LookAtDeliveries(ctx context.Context, db outbox.Beginner, f DeliveryFilter, after int64, limit int) (look DeliveryLook, err error) {
	args, err := f.args(after, LookMost, limit)
	if err != nil {
		return look, err
	}
	var looked int
	err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, f.lookSQL(), args...).Scan(&looked, &look.Last, &look.Count, &look.IDs, &look.Groups)
	})
	if err != nil {
		return look, fmt.Errorf("look at deliveries: %w", err)
	}
	look.Done = looked < LookMost
	return look, nil
}

// lookSQL names the states, so that the planner sees which index has them: deliveries_decide those that are dead or skipped,
// deliveries_owner those that run. Else it is deliveries_pkey.
func (f DeliveryFilter) lookSQL() string {
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
