package engine_test

import (
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestClaimedPending has a worker claim lanes that were last read while a transaction ran, after it has itself settled that
// transaction's events in its own lanes. What is pending for the claimed lanes must not bring those back.
func TestClaimedPending(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s, err := engine.Subscribe(ctx, db.Pool, "s", []string{">"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	join := func() *engine.Member {
		id, err := engine.Join(ctx, db.Conn(t), t.Name(), true, time.Hour, []int32{s.ID})
		if err != nil {
			t.Fatal(err)
		}
		m := engine.NewMember(db.Conn(t), id, s)
		if _, err := m.Claim(ctx, engine.Lanes/2); err != nil {
			t.Fatal(err)
		}
		return m
	}
	stays, leaves := join(), join()
	tx, err := db.Conn(t).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range engine.Lanes { // one for each lane
		enginetest.Publish(t, tx, "")
	}
	for range engine.Lanes {
		enginetest.Publish(t, db.Pool, "")
	}
	enginetest.Settle(t, stays, engine.Lanes/2)
	enginetest.Settle(t, leaves, engine.Lanes/2)
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	enginetest.Settle(t, stays, engine.Lanes/2)
	if _, err := leaves.Release(ctx, engine.Lanes); err != nil {
		t.Fatal(err)
	}
	if _, err := stays.Claim(ctx, engine.Lanes); err != nil {
		t.Fatal(err)
	}
	for _, e := range enginetest.Settle(t, stays, engine.Lanes/2) {
		if e.ID > engine.Lanes {
			t.Errorf("event %d is repeated", e.ID)
		}
	}
}
