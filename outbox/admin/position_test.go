package admin_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestPositions creates subscriptions at all kinds of places in a log of a thousand events, one a second, and sees what they
// read first.
func TestPositions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Second) }
	enginetest.Fill(t, db, 1000, begin)
	// One statement that ran for a while: its events are older than those around them.
	if _, err := db.Pool.Exec(ctx, `update outbox.events set published_at = $1 where id between 600 and 700 and id % 2 = 0`, at(599)); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		position outbox.Position
		first    int64 // id; 0 when there is none
		count    int
	}{
		{outbox.Position{}, 1, 1000},
		{outbox.FromBeginning, 1, 1000},
		{outbox.FromNow, 0, 0},
		{outbox.FromID(1), 1, 1000},
		{outbox.FromID(990), 990, 11},
		{outbox.FromID(1001), 0, 0},
		{outbox.FromTime(begin.Add(-time.Hour)), 1, 1000},
		{outbox.FromTime(at(1)), 1, 1000},
		{outbox.FromTime(at(2)), 2, 999},
		{outbox.FromTime(at(500)), 500, 501},
		{outbox.FromTime(at(500).Add(-time.Millisecond)), 500, 501},
		{outbox.FromTime(at(500).Add(time.Millisecond)), 501, 500},
		{outbox.FromTime(at(600)), 601, 400},
		{outbox.FromTime(at(650)), 651, 350},
		{outbox.FromTime(at(1000)), 1000, 1},
		{outbox.FromTime(at(1001)), 0, 0},
		{outbox.FromTime(time.Now()), 0, 0},
	} {
		s, err := engine.Subscribe(ctx, db.Pool, fmt.Sprint("s", i), []string{">"}, c.position)
		if err != nil {
			t.Fatal(err)
		}
		m, _ := enginetest.Member(t, db, s)
		var first int64
		count := 0
		for {
			w, err := m.Read(ctx, 10000)
			if err != nil {
				t.Fatal(err)
			}
			if len(w.Events) == 0 {
				break
			}
			if count == 0 {
				first = w.Events[0].ID
			}
			count += len(w.Events)
		}
		if first != c.first || count != c.count {
			t.Errorf("%+v: read %d events from %d on, want %d from %d on", c.position, count, first, c.count, c.first)
		}
	}
	for _, id := range []int64{-1, 1002} {
		if _, err := engine.Subscribe(ctx, db.Pool, "never", []string{">"}, outbox.FromID(id)); !errors.Is(err, outbox.ErrInvalidPosition) {
			t.Errorf("from id %d: got %v, want ErrInvalidPosition", id, err)
		}
	}
}
