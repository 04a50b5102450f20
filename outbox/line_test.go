package outbox_test

import (
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// waitingLine makes deliveries of three events of a key, of which the first has had so many attempts, and returns who owns them.
func waitingLine(t *testing.T, db *pgtest.DB, attempts int) (*outbox.Member, []outbox.LaneEvent) {
	t.Helper()
	m, _ := member(t, db, subscribe(t, db, ">"))
	for range 3 {
		publishOne(t, db.Pool, "k")
	}
	w, err := m.Read(t.Context(), 100*outbox.Lanes)
	if err != nil || len(w.Events) != 3 {
		t.Fatal(w, err)
	}
	unfinished := []outbox.Unfinished{{Event: w.Events[0], Attempt: attempts}, {Event: w.Events[1]}, {Event: w.Events[2]}}
	if err := m.Settle(t.Context(), outbox.Settlement{Window: w, Unfinished: unfinished}); err != nil {
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
	line := []outbox.Line{{Lane: events[0].Lane, Key: "k"}}
	tx, err := db.Conn(t).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f := outbox.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Retrying}, IDs: []int64{events[0].ID}}
	if n, err := outbox.RetryDeliveries(ctx, tx, f); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if due, _, err := m.ClaimDue(ctx, line, 10, outbox.Suspects{Alone: true}); err != nil || len(due) != 0 {
		t.Errorf("claimed %+v, %v: their head has yet to be tried", due, err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	due, _, err := m.ClaimDue(ctx, line, 10, outbox.Suspects{Alone: true})
	if err != nil || len(due) != 3 || due[0].Event.ID != events[0].ID {
		t.Errorf("claimed %+v, %v; want the whole line", due, err)
	}
}
