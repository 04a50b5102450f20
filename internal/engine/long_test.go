package engine_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// publishLong publishes an event of a key, of so many bytes.
func publishLong(t *testing.T, db outbox.DB, key string, bytes int) {
	t.Helper()
	if _, err := db.Exec(t.Context(), `insert into outbox.events (topic, key, payload) values ('a', $1, to_json(repeat('x', $2)))`, key, bytes); err != nil {
		t.Fatal(err)
	}
}

// late has an event become visible after a later one was read and settled.
func late(t *testing.T, db *pgtest.DB, m *engine.Member, publish func(tx pgx.Tx)) {
	t.Helper()
	tx, err := db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	publish(tx)
	for i := range 12 { // so that the member knows nothing but small ones
		enginetest.Publish(t, db.Pool, fmt.Sprint("small-", i))
		enginetest.Settle(t, m, 1)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// readsUntil reads and settles until there is an event, with a limit that a long one is too much for, and returns it and how many reads that took.
func readsUntil(t *testing.T, m *engine.Member) (e engine.Event, reads int) {
	t.Helper()
	for reads < 50 {
		reads++
		w, err := m.Read(t.Context(), 5120)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Settle(t.Context(), engine.Settlement{Window: w}); err != nil {
			t.Fatal(err)
		}
		if len(w.Events) > 0 {
			return w.Events[0], reads
		}
	}
	t.Fatalf("there was none in %d reads", reads)
	return e, reads
}

// TestFirstEventIsLate has the first event of all be late, and too long to be read with others.
func TestFirstEventIsLate(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	m, _ := enginetest.Member(t, db, enginetest.Subscribe(t, db, ">"))
	late(t, db, m, func(tx pgx.Tx) { publishLong(t, tx, "k", 20_000) })
	if e, _ := readsUntil(t, m); e.ID != 1 {
		t.Errorf("read event %d", e.ID)
	}
}

// TestLongLateEvents has events be late that are too long to be read with others, again and again, while lanes without such events go on. The read
// that takes one of each lane is the one that looks for what is late.
func TestLongLateEvents(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	m, _ := enginetest.Member(t, db, enginetest.Subscribe(t, db, ">"))
	for i := range 3 {
		late(t, db, m, func(tx pgx.Tx) { publishLong(t, tx, "k", 200_000) })
		if e, reads := readsUntil(t, m); len(e.Payload) < 200_000 || reads > 6 {
			t.Errorf("the long event %d: %d bytes in read %d", i, len(e.Payload), reads)
		}
		enginetest.Settle(t, m, 0)
	}
}
