package admin

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// DeliveryGroups are the deliveries that match a filter, by their error.
type DeliveryGroups struct {
	Groups     []DeliveryGroup `json:"groups"`     // the most frequent errors first
	Deliveries int64           `json:"deliveries"` // how many match
	Partial    bool            `json:"partial"`    // not all were looked at: more may match
}

// A DeliveryGroup is what failed with the same error.
type DeliveryGroup struct {
	Error  string `json:"error"`  // the first line of the last failure; "" for those without one
	Events int64  `json:"events"` // how many of them
	First  int64  `json:"first"`  // id of the first event
	Last   int64  `json:"last"`   // id of the last event
}

// GroupDeliveries groups the deliveries that match by their error. It looks at all deliveries in the states of the filter, 20,000 in a
// transaction, and checks ctx in between: [GroupDeliveriesUpTo] is quick. It returns ErrUnknownSubscription for an unknown subscription,
// and ErrInvalidFilter for an invalid filter. Safe for concurrent use as far as db is.
func GroupDeliveries(ctx context.Context, db outbox.Database, f DeliveryFilter) (*DeliveryGroups, error) {
	return GroupDeliveriesUpTo(ctx, db, f, math.MaxInt64)
}

// GroupDeliveriesUpTo looks at no more than limit deliveries in the states of the filter, those with the lowest ids; limit is at least 1.
// Otherwise it is like [GroupDeliveries].
func GroupDeliveriesUpTo(ctx context.Context, db outbox.Database, f DeliveryFilter, limit int64) (*DeliveryGroups, error) {
	if err := checkUpTo(limit); err != nil {
		return nil, fmt.Errorf("group deliveries: %w", err)
	}
	byError := map[string]DeliveryGroup{}
	found := &DeliveryGroups{}
	for after := int64(0); ; {
		rows := min(scanRows, limit)
		part, looked, last, err := f.group(ctx, db, after, rows)
		if err != nil {
			return nil, err
		}
		for _, group := range part {
			found.Deliveries += group.Events
			if known, ok := byError[group.Error]; ok { // its events come before
				group.First, group.Events = known.First, group.Events+known.Events
			}
			byError[group.Error] = group
		}
		if looked < rows {
			break
		}
		if limit -= looked; limit == 0 {
			found.Partial = true
			break
		}
		after = last
	}
	found.Groups = slices.AppendSeq([]DeliveryGroup{}, maps.Values(byError))
	slices.SortFunc(found.Groups, func(a, b DeliveryGroup) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), strings.Compare(a.Error, b.Error))
	})
	return found, nil
}

// group groups some deliveries, and says how many it looked at, and up to which id.
func (f DeliveryFilter) group(ctx context.Context, db outbox.Database, after, rows int64) (groups []DeliveryGroup, looked, last int64, err error) {
	args, err := f.args(after, rows)
	if err != nil {
		return nil, 0, 0, err
	}
	err = engine.Scanning(ctx, db, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, f.groupsSQL(), args...).Scan(&looked, &last, &groups); err != nil || looked > 0 {
			return err
		}
		return checkKnown(ctx, tx, f.Subscription)
	})
	if err != nil {
		err = fmt.Errorf("group deliveries of %q: %w", f.Subscription, err)
	}
	return groups, looked, last, err
}

func (f DeliveryFilter) groupsSQL() string {
	return `
with looked as materialized (
    select d.event_id, ` + f.where() + ` as wanted, coalesce(split_part(d.errors -> -1 ->> 'error', E'\n', 1), '') as error
    from ` + f.candidates() + ` and d.event_id > $9
    order by d.event_id
    limit $10
)
select (select count(*) from looked), (select coalesce(max(l.event_id), $9) from looked l),
       (select coalesce(jsonb_agg(g), '[]')
        from (select l.error, count(*) as events, min(l.event_id) as first, max(l.event_id) as last
              from looked l
              where l.wanted
              group by l.error) g)`
}
