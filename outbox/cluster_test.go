package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestAdopt restores a log, so to speak, in which a cursor still waits for transactions: to this cluster their ids mean other
// transactions, of which some publish too.
func TestAdopt(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s, err := outbox.Subscribe(ctx, db.Pool, "s", []string{"a.>"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	conn, control := db.Conn(t), db.Conn(t)
	old, err := outbox.Join(ctx, control, "dumped", true, []int32{s.ID})
	if err != nil {
		t.Fatal(err)
	}
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
	m := outbox.NewMember(conn, old, s)
	if _, err := m.Claim(ctx, outbox.Lanes); err != nil {
		t.Fatal(err)
	}
	publish(db.Pool, "a.settled", 3)
	settle(t, m, 1)
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	// The dump is taken here: one event is late, and one follows.
	unread := publish(db.Pool, "a.unread", 4)
	if _, err := control.Exec(ctx, `update outbox.cluster set system_identifier = 1`); err != nil {
		t.Fatal(err)
	}
	if err := outbox.CheckCluster(ctx, db.Pool); !errors.Is(err, outbox.ErrForeignCluster) {
		t.Fatalf("got %v, want ErrForeignCluster", err)
	}
	for _, want := range []bool{true, false} {
		if adopted, err := outbox.Adopt(ctx, control); err != nil || adopted != want {
			t.Fatalf("adopted: %v, %v; want %v", adopted, err, want)
		}
	}
	if err := outbox.CheckCluster(ctx, db.Pool); err != nil {
		t.Fatal(err)
	}
	rows, _ := db.Pool.Query(ctx, `select event_id from outbox.deliveries where state = 'retrying'`)
	deliveries, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil || fmt.Sprint(deliveries) != fmt.Sprint([]int64{late}) {
		t.Errorf("deliveries are %v, %v; want the late event, %d", deliveries, err, late)
	}

	// The worker of the dump is gone, and the new one reads what was not read, and nothing again.
	if s, err = outbox.Subscribe(ctx, db.Pool, "s", nil, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	id, err := outbox.Join(ctx, control, "new", true, []int32{s.ID})
	if err != nil {
		t.Fatal(err)
	}
	m = outbox.NewMember(db.Conn(t), id, s)
	lanes, err := m.Claim(ctx, outbox.Lanes)
	if err != nil || len(lanes) != outbox.Lanes {
		t.Fatalf("claimed %d lanes, %v", len(lanes), err)
	}
	if events := settle(t, m, 1); events[0].ID != unread {
		t.Errorf("read %d, want %d", events[0].ID, unread)
	}
	settle(t, m, 0)
}

// settle reads until nothing is left, and checks how many events that were.
func settle(t *testing.T, m *outbox.Member, want int) (events []outbox.Event) {
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
		if err := m.Settle(context.Background(), outbox.Settlement{Window: w}); err != nil {
			t.Fatal(err)
		}
	}
	if len(events) != want {
		t.Fatalf("read %d events, want %d", len(events), want)
	}
	return events
}
