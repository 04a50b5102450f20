package outbox_test

import (
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestClaimedPending has a worker claim lanes that were last read while a transaction ran, after it has itself settled that
// transaction's events in its own lanes. What is pending for the claimed lanes must not bring those back.
func TestClaimedPending(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s, err := outbox.Subscribe(ctx, db.Pool, "s", []string{">"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	join := func() *outbox.Member {
		id, err := outbox.Join(ctx, db.Conn(t), t.Name(), true, []int32{s.ID})
		if err != nil {
			t.Fatal(err)
		}
		m := outbox.NewMember(db.Conn(t), id, s)
		if _, err := m.Claim(ctx, outbox.Lanes/2); err != nil {
			t.Fatal(err)
		}
		return m
	}
	stays, leaves := join(), join()
	tx, err := db.Conn(t).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range outbox.Lanes { // one for each lane
		publishOne(t, tx, "")
	}
	for range outbox.Lanes {
		publishOne(t, db.Pool, "")
	}
	settle(t, stays, outbox.Lanes/2)
	settle(t, leaves, outbox.Lanes/2)
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	settle(t, stays, outbox.Lanes/2)
	if _, err := leaves.Release(ctx, outbox.Lanes); err != nil {
		t.Fatal(err)
	}
	if _, err := stays.Claim(ctx, outbox.Lanes); err != nil {
		t.Fatal(err)
	}
	for _, e := range settle(t, stays, outbox.Lanes/2) {
		if e.ID > outbox.Lanes {
			t.Errorf("event %d is repeated", e.ID)
		}
	}
}
