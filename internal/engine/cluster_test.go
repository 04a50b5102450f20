package engine_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestAdopt restores a log, so to speak, in which a cursor still waits for transactions: to this cluster their ids mean other
// transactions, of which some publish too.
func TestAdopt(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, "a.>")
	control := db.Conn(t)
	publish := func(db outbox.DB, topic string, n int) int64 {
		t.Helper()
		e, err := outbox.NewEvent(topic, "k", n)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := outbox.Publish(ctx, db, e)
		if err != nil {
			t.Fatal(err)
		}
		return stored[0].ID
	}
	slow := db.Conn(t)
	tx, err := slow.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	late := publish(tx, "a.late", 1)
	publish(tx, "b.unwanted", 2)
	m, _ := enginetest.Member(t, db, s)
	publish(db.Pool, "a.settled", 3)
	enginetest.Settle(t, m, 1)
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	// The dump is taken here: one event is late, and one follows.
	unread := publish(db.Pool, "a.unread", 4)
	if _, err := control.Exec(ctx, `update outbox.cluster set system_identifier = 1`); err != nil {
		t.Fatal(err)
	}
	if err := engine.CheckLog(ctx, db.Pool); !errors.Is(err, outbox.ErrForeignCluster) {
		t.Fatalf("got %v, want ErrForeignCluster", err)
	}
	for _, want := range []bool{true, false} {
		if mended, err := engine.Mend(ctx, control, engine.Restore); err != nil || mended != (engine.Mended{Adopted: want}) {
			t.Fatalf("mended: %+v, %v; want adopted %v", mended, err, want)
		}
	}
	if err := engine.CheckLog(ctx, db.Pool); err != nil {
		t.Fatal(err)
	}
	rows, _ := db.Pool.Query(ctx, `select event_id from outbox.deliveries where state = 'retrying'`)
	deliveries, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil || fmt.Sprint(deliveries) != fmt.Sprint([]int64{late}) {
		t.Errorf("deliveries are %v, %v; want the late event, %d", deliveries, err, late)
	}

	// The worker of the dump is gone, and the new one reads what was not read, and nothing again.
	m, _ = enginetest.Member(t, db, enginetest.Subscribe(t, db, "a.>"))
	if lanes := m.Lanes(); len(lanes) != engine.Lanes {
		t.Fatalf("claimed %d lanes", len(lanes))
	}
	if events := enginetest.Settle(t, m, 1); events[0].ID != unread {
		t.Errorf("read %d, want %d", events[0].ID, unread)
	}
	enginetest.Settle(t, m, 0)
}

// TestAdoptKeepsUIDs moves rows alone, so to speak, into a schema that was migrated before: events keep the UIDs that they had.
func TestAdoptKeepsUIDs(t *testing.T) {
	t.Parallel()
	for _, n := range []naming.Name{"", "billing"} {
		t.Run(n.String(), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := pgtest.NewEmpty(t)
			o, err := outbox.In(n.String())
			if err != nil {
				t.Fatal(err)
			}
			if err := apply.Up(ctx, db.Conn(t), migrations.For(o)); err != nil {
				t.Fatal(err)
			}
			conn := n.Conn(db.Conn(t))
			var tag, have int
			if err := conn.QueryRow(ctx, `select outbox.tag()`).Scan(&tag); err != nil {
				t.Fatal(err)
			}
			old := (tag + 1) % 65536
			if _, err := conn.Exec(ctx, `insert into outbox.cluster (system_identifier, relations, tag) values (1, '{}', $1)`, old); err != nil {
				t.Fatal(err)
			}
			for _, adopted := range []bool{true, false} {
				if mended, err := engine.Mend(ctx, conn, engine.Restore); err != nil || mended.Adopted != adopted {
					t.Fatalf("mended: %+v, %v; want adopted %v", mended, err, adopted)
				}
				if err := conn.QueryRow(ctx, `select outbox.tag() from outbox.cluster c where c.tag = outbox.tag()`).Scan(&have); err != nil || have != old {
					t.Fatalf("the tag is %d, %v; want that of the events, %d", have, err, old)
				}
			}
		})
	}
}
