package engine_test

import (
	"testing"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// waitingLine makes deliveries of three events of a key, of which the first has had so many attempts, and returns who owns them.
func waitingLine(t *testing.T, db *pgtest.DB, attempts int) (*engine.Member, []engine.Event) {
	t.Helper()
	m, _ := enginetest.Member(t, db, enginetest.Subscribe(t, db, ">"))
	for range 3 {
		enginetest.Publish(t, db.Pool, "k")
	}
	w, err := m.Read(t.Context(), 100*engine.Lanes)
	if err != nil || len(w.Events) != 3 {
		t.Fatal(w, err)
	}
	unfinished := []engine.Unfinished{{Event: w.Events[0], Attempt: attempts}, {Event: w.Events[1]}, {Event: w.Events[2]}}
	if err := m.Settle(t.Context(), engine.Settlement{Window: w, Unfinished: unfinished}); err != nil {
		t.Fatal(err)
	}
	return m, w.Events
}

// TestLockedHead has somebody decide about the head of a key's line, in a transaction that has yet to end: what is behind it waits.
func TestLockedHead(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	m, events := waitingLine(t, db, 1)
	line := []engine.Line{{Lane: events[0].Lane, Key: "k"}}
	tx, err := db.Conn(t).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f := admin.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Retrying}, IDs: []int64{events[0].ID}}
	if n, err := admin.RetryDeliveries(ctx, tx, f); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if due, _, err := m.ClaimDue(ctx, line, 10, engine.Suspects{Alone: true}, nil); err != nil || len(due) != 0 {
		t.Errorf("claimed %+v, %v: their head has yet to be tried", due, err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	due, _, err := m.ClaimDue(ctx, line, 10, engine.Suspects{Alone: true}, nil)
	if err != nil || len(due) != 3 || due[0].Event.ID != events[0].ID {
		t.Errorf("claimed %+v, %v; want the whole line", due, err)
	}
}

// TestHeadAlone claims the head of a line that has failed: what is behind it stays where it is.
func TestHeadAlone(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	m, events := waitingLine(t, db, 1)
	line := []engine.Line{{Lane: events[0].Lane, Key: "k", Alone: true}}
	due, waiting, err := m.ClaimDue(t.Context(), line, 10, engine.Suspects{Alone: true}, nil)
	if err != nil || len(due) != 1 || due[0].Event.ID != events[0].ID {
		t.Errorf("claimed %+v, %v; want the head", due, err)
	}
	if len(waiting) != 1 || waiting[0].Count != 3 {
		t.Errorf("waiting: %+v; want the line", waiting)
	}
}
