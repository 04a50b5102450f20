// Package enginetest has the vocabulary of tests about the log: subscribe, join, publish, settle, delete.
package enginetest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// Subscribe returns the test's subscription s, from the beginning of the log.
func Subscribe(t testing.TB, db *pgtest.DB, topics ...string) engine.Subscription {
	t.Helper()
	s, err := engine.Subscribe(t.Context(), db.Pool, "s", topics, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Member joins and claims what it can.
func Member(t testing.TB, db *pgtest.DB, s engine.Subscription) (*engine.Member, int64) {
	t.Helper()
	id, err := engine.Join(t.Context(), db.Conn(t), t.Name(), true, time.Hour, []int32{s.ID})
	if err != nil {
		t.Fatal(err)
	}
	m := engine.NewMember(db.Conn(t), id, s)
	if _, err := m.Claim(t.Context(), engine.Lanes); err != nil {
		t.Fatal(err)
	}
	return m, id
}

// Publish publishes one event of topic "a" with a key.
func Publish(t testing.TB, db outbox.DB, key string) {
	t.Helper()
	if _, err := outbox.Publish(t.Context(), db, outbox.Event{Topic: "a", Key: key, Payload: json.RawMessage(`1`)}); err != nil {
		t.Fatal(err)
	}
}

// Settle reads until nothing is left, and checks how many events that were.
func Settle(t testing.TB, m *engine.Member, want int) (events []engine.Event) {
	t.Helper()
	for {
		w, err := m.Read(context.Background(), 100)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, w.Events...)
		if w.Empty() {
			break
		}
		if err := m.Settle(context.Background(), engine.Settlement{Window: w, Handled: int64(len(w.Events))}); err != nil {
			t.Fatal(err)
		}
	}
	if len(events) != want {
		t.Fatalf("read %d events, want %d", len(events), want)
	}
	return events
}

// Fill publishes events with the ids from 1 to n, a second apart: topics a.0 to a.9 in turn, keys k0 to k6 and none, payload
// {"n": id, "even": …}.
func Fill(t testing.TB, db *pgtest.DB, n int, begin time.Time) {
	t.Helper()
	_, err := db.Pool.Exec(t.Context(), `
		insert into outbox.events (topic, key, payload, published_at)
		select 'a.' || i % 10, case when i % 8 < 7 then 'k' || i % 8 end, jsonb_build_object('n', i, 'even', i % 2 = 0), $2::timestamptz + i * interval '1 s'
		from generate_series(1, $1::integer) i`, n, begin)
	if err != nil {
		t.Fatal(err)
	}
}

// TrimAll deletes what has expired, with a retention of an hour, and returns the ids that are left.
func TrimAll(t testing.TB, db *pgtest.DB, thorough bool) (left []int64) {
	t.Helper()
	lanes, err := engine.ExpiredLanes(t.Context(), db.Pool, time.Hour, thorough)
	if err != nil {
		t.Fatal(err)
	}
	for _, lane := range lanes {
		for n := 100; n == 100; {
			if n, err = engine.Trim(t.Context(), db.Pool, lane, time.Hour, 100, thorough); err != nil {
				t.Fatal(err)
			}
		}
	}
	rows, _ := db.Pool.Query(t.Context(), `select id from outbox.events order by id`)
	if left, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
		t.Fatal(err)
	}
	return left
}

// Age makes events with ids up to an id two hours old.
func Age(t testing.TB, db *pgtest.DB, id int64) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), `update outbox.events set published_at = now() - interval '2 hours' where id <= $1`, id); err != nil {
		t.Fatal(err)
	}
}
