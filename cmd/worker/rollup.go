package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/producer"
	"github.com/signalbox-go/signalbox/worker"
)

// rollupSQL adds a window of signals in one statement, however many there are. Rows are locked in the order of their names, so
// that two workers, of which one has lost its lanes to the other and does not know yet, cannot lock each other out.
//
// A name's last signal is that with the highest id. Transactions commit in another order than they take ids in, so that need
// not be the last one to arrive.
const rollupSQL = `
insert into public.signal_rollups as r (name, count, sum, min, max, last_id, last_value)
select s.name, count(*), sum(s.value::numeric), min(s.value), max(s.value), max(s.id), (array_agg(s.value order by s.id desc))[1]
from unnest($1::bigint[], $2::text[], $3::double precision[]) as s (id, name, value)
group by s.name
order by s.name
on conflict (name) do update
set count      = r.count + excluded.count,
    sum        = r.sum + excluded.sum,
    min        = least(r.min, excluded.min),
    max        = greatest(r.max, excluded.max),
    last_id    = greatest(r.last_id, excluded.last_id),
    last_value = case when excluded.last_id > r.last_id then excluded.last_value else r.last_value end`

// rollup is the handler "rollup". It adds signals to public.signal_rollups in the transaction that settles their events:
// each counts exactly once.
func rollup(ctx context.Context, tx pgx.Tx, events []*worker.Event[producer.Signal]) error {
	var (
		ids    = make([]int64, len(events))
		names  = make([]string, len(events))
		values = make([]float64, len(events))
		errs   = make([]error, len(events))
	)
	for i, e := range events {
		ids[i], names[i], values[i] = e.Payload.ID, e.Payload.Name, e.Payload.Value
		if e.Payload.ID == 0 || e.Payload.Name == "" { // anybody can publish to the topic
			errs[i] = worker.DeadLetter(errNotStored)
		}
	}
	if err := worker.PerEvent(errs); err != nil {
		return err // the others come again without them
	}
	_, err := tx.Exec(ctx, rollupSQL, ids, names, values)
	return err
}

var errNotStored = errors.New("the payload is not a stored signal: it has no id or no name")
