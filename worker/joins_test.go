package worker

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
)

// TestReadLimit sizes what is read: as many events as are handled in time and, while more lines are due than are claimed, as many as add half as
// many deliveries to them as turns claim.
func TestReadLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit       int // by time
		hands       int
		transaction bool
		crowded     bool
		joined, of  int // of the windows so far
		claimed     int // by each turn
		least, most int
	}{
		"what is handled in time":              {limit: 5000, hands: 100, least: 5000, most: 5000},
		"one of each lane":                     {limit: 10, hands: 10, least: engine.Lanes, most: engine.Lanes},
		"lines that are not crowded":           {limit: 5000, hands: 100, joined: 500, of: 1000, claimed: 500, least: 5000, most: 5000},
		"crowded lines, which nothing joins":   {limit: 5000, hands: 100, crowded: true, of: 1000, claimed: 500, least: 5000, most: 5000},
		"crowded lines, which half joins":      {limit: 5000, hands: 100, crowded: true, joined: 500, of: 1000, claimed: 500, least: 450, most: 550},
		"crowded lines, which all joins":       {limit: 5000, hands: 100, crowded: true, joined: 1000, of: 1000, claimed: 500, least: 230, most: 270},
		"no fewer than hands":                  {limit: 5000, hands: 100, crowded: true, joined: 1000, of: 1000, claimed: 1, least: 100, most: 100},
		"fewer where hands take turns":         {limit: 5000, hands: 100, transaction: true, crowded: true, joined: 1000, of: 1000, claimed: 10, least: 4, most: 6},
		"one where next to nothing is claimed": {limit: 5000, hands: 100, transaction: true, crowded: true, joined: 1000, of: 1000, claimed: 0, least: 1, most: 1},
	} {
		r := &runner{backlog: newBacklog(), limit: c.limit}
		r.sub.Concurrency, r.backlog.crowded = c.hands, c.crowded
		if c.transaction {
			r.sub.many = func(context.Context, pgx.Tx, []*job) {}
		}
		for range 20 {
			r.joins.note(c.joined, c.of)
			r.joins.claimed(c.claimed)
		}
		if n := r.readLimit(); n < c.least || n > c.most {
			t.Errorf("%s: %d, want %d to %d", name, n, c.least, c.most)
		}
	}
}

// TestClaimFitting has claims take about claimTime while something new waits.
func TestClaimFitting(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		claimed int
		took    time.Duration
		want    int
	}{
		{512, 4 * claimTime, 128},
		{128, claimTime, 128},
		{128, claimTime / 4, 256}, // twice as many at most
		{100, time.Second, 70},    // so many in any case
		{400, claimTime / 4, dueAtOnce},
	} {
		if got := claimFitting(c.claimed, 70, c.took); got != c.want {
			t.Errorf("after %d in %v: %d, want %d", c.claimed, c.took, got, c.want)
		}
	}
}
