package outbox_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

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
	fill(t, db, 1000, begin)
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
		s, err := outbox.Subscribe(ctx, db.Pool, fmt.Sprint("s", i), []string{">"}, c.position)
		if err != nil {
			t.Fatal(err)
		}
		m, _ := member(t, db, s)
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
		if _, err := outbox.Subscribe(ctx, db.Pool, "never", []string{">"}, outbox.FromID(id)); !errors.Is(err, outbox.ErrInvalidPosition) {
			t.Errorf("from id %d: got %v, want ErrInvalidPosition", id, err)
		}
	}
}

// fill publishes events with the ids from 1 to n, a second apart: topics a.0 to a.9 in turn, keys k0 to k6 and none, payload
// {"n": id, "even": …}.
func fill(t *testing.T, db *pgtest.DB, n int, begin time.Time) {
	t.Helper()
	_, err := db.Pool.Exec(t.Context(), `
		insert into outbox.events (topic, key, payload, published_at)
		select 'a.' || i % 10, case when i % 8 < 7 then 'k' || i % 8 end, jsonb_build_object('n', i, 'even', i % 2 = 0), $2::timestamptz + i * interval '1 s'
		from generate_series(1, $1::integer) i`, n, begin)
	if err != nil {
		t.Fatal(err)
	}
}
