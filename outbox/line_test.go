package outbox_test

import (
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestLockedHead has somebody decide about the head of a key's line, in a transaction that has yet to end: what is behind it waits.
func TestLockedHead(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := subscribe(t, db, ">")
	m, _ := member(t, db, s)
	for range 3 {
		publishOne(t, db.Pool, "k")
	}
	w, err := m.Read(ctx, 100*outbox.Lanes)
	if err != nil || len(w.Events) != 3 {
		t.Fatal(w, err)
	}
	failure := &outbox.Failure{Attempt: 1, At: time.Now(), Worker: "w", Error: "no"}
	unfinished := []outbox.Unfinished{{Event: w.Events[0], Attempt: 1, Failure: failure}, {Event: w.Events[1]}, {Event: w.Events[2]}}
	if err := m.Settle(ctx, outbox.Settlement{Window: w, Unfinished: unfinished}); err != nil {
		t.Fatal(err)
	}
	line := []outbox.Line{{Lane: w.Events[0].Lane(), Key: "k"}}
	tx, err := db.Conn(t).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f := outbox.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Retrying}, IDs: []int64{w.Events[0].ID}}
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
	if err != nil || len(due) != 3 || due[0].Event.ID != w.Events[0].ID {
		t.Errorf("claimed %+v, %v; want the whole line", due, err)
	}
}
