package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Mark says how far the log had been written, and how many events each subscription had handled, at a moment. Two marks tell the
// rates in between.
type Mark struct {
	At      time.Time        // by the database's clock
	Last    int64            // the last id that was taken; those of transactions that rolled back are among them
	Handled map[string]int64 // by subscription: events that it has handled with success; less than before once it was deleted and created anew
}

const markSQL = `
with handled as materialized (` + engine.HandledSQL + `
)
select clock_timestamp(), ` + engine.HeadSQL + `,
       array(select h.name from handled h order by h.id),
       array(select h.handled from handled h order by h.id)`

// GetMark returns the mark of this moment. It reads no event. Safe for concurrent use as far as db is.
func GetMark(ctx context.Context, db outbox.DB) (Mark, error) {
	var (
		m       Mark
		names   []string
		handled []int64
	)
	if err := db.QueryRow(ctx, markSQL).Scan(&m.At, &m.Last, &names, &handled); err != nil {
		return Mark{}, fmt.Errorf("read how far the log is: %w", err)
	}
	m.Handled = make(map[string]int64, len(names))
	for i, name := range names {
		m.Handled[name] = handled[i]
	}
	return m, nil
}
