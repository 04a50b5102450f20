package admin

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Lane says who owns a lane of a subscription, and how far it is.
type Lane struct {
	Number  int16  `json:"lane"`     // from 0 to 63
	OwnerID int64  `json:"owner_id"` // of the worker; 0 where none that lives owns it
	Owner   string `json:"owner"`    // its name, which others may have as well
	AfterID int64  `json:"after_id"`
	Behind  int64  `json:"behind"` // ids between its cursor and the end of the log, those of other lanes and topics included
}

const lanesSQL = `
with cursors as materialized (` + engine.CursorsSQL + `
    where l.subscription_id = (select s.id from outbox.subscriptions s where s.name = $1)
)
select c.lane, coalesce(w.id, 0), coalesce(w.name, ''), c.after_id, greatest(h.id - c.after_id, 0)
from cursors c
cross join (select ` + engine.HeadSQL + ` as id) h
join outbox.lanes l on l.subscription_id = c.subscription_id and l.lane = c.lane
left join outbox.workers w on w.id = l.owner and ` + engine.LiveSQL + `
order by c.lane`

// ListLanes returns the 64 lanes of a subscription in their order, or ErrUnknownSubscription. Safe for concurrent use as far as db
// is.
func ListLanes(ctx context.Context, db outbox.DB, name string) ([]Lane, error) {
	rows, _ := db.Query(ctx, lanesSQL, name)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Lane])
	if err == nil && len(list) == 0 {
		err = outbox.ErrUnknownSubscription
	}
	if err != nil {
		return nil, fmt.Errorf("list lanes of %q: %w", name, err)
	}
	return list, nil
}
