package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Mark says how far the log had been written, and how far each subscription had settled it, at a moment. Two marks tell the
// rates in between.
type Mark struct {
	At      time.Time          // by the database's clock
	Last    int64              // the last id that was taken; those of transactions that rolled back are among them
	Settled map[string]float64 // by subscription: the id up to where it has settled the log, as the mean of its lanes
}

const markSQL = `
with cursors as materialized (` + engine.CursorsSQL + `
)
select clock_timestamp(), ` + engine.HeadSQL + `,
       array(select s.name from outbox.subscriptions s order by s.id),
       array(select (select coalesce(avg(c.after_id), 0) from cursors c where c.subscription_id = s.id)::double precision
             from outbox.subscriptions s order by s.id)`

// ReadMark returns the mark of this moment. It reads no event. Safe for concurrent use as far as db is.
func ReadMark(ctx context.Context, db outbox.DB) (Mark, error) {
	var (
		m       Mark
		names   []string
		settled []float64
	)
	if err := db.QueryRow(ctx, markSQL).Scan(&m.At, &m.Last, &names, &settled); err != nil {
		return Mark{}, fmt.Errorf("read how far the log is: %w", err)
	}
	m.Settled = make(map[string]float64, len(names))
	for i, name := range names {
		m.Settled[name] = settled[i]
	}
	return m, nil
}
