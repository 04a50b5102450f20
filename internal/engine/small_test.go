package engine_test

import (
	"testing"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// TestSmallReads reads by fives what all lanes have: no read brings more, although there are more lanes, no lane waits until others are empty, and each event
// comes once, those of a lane in order.
func TestSmallReads(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	m, _ := enginetest.Member(t, db, enginetest.Subscribe(t, db, ">"))
	const each, few = 3, 5
	if _, err := db.Pool.Exec(ctx, `
		insert into outbox.events (topic, key, payload)
		select 't', null, to_json(n) from generate_series(1, $1::integer) n`, each*engine.Lanes); err != nil {
		t.Fatal(err)
	}
	last, served := map[int16]int64{}, map[int16]int{}
	reads, seen := 0, map[int64]bool{}
	for more := true; more; reads++ {
		w, err := m.Read(ctx, few)
		if err != nil {
			t.Fatal(err)
		}
		if len(w.Events) > few {
			t.Fatalf("a read of %d has brought %d", few, len(w.Events))
		}
		for _, e := range w.Events {
			if e.ID <= last[e.Lane] {
				t.Errorf("event %d comes after %d of its lane", e.ID, last[e.Lane])
			}
			last[e.Lane], seen[e.ID] = e.ID, true
			served[e.Lane]++
		}
		if reads == 2*engine.Lanes/few {
			for lane := range int16(engine.Lanes) {
				if served[lane] == 0 {
					t.Errorf("lane %d waits while others were served", lane)
				}
			}
		}
		if more = w.More(); reads > each*engine.Lanes {
			t.Fatal("it does not end")
		}
	}
	if len(seen) != each*engine.Lanes {
		t.Errorf("%d of %d events came", len(seen), each*engine.Lanes)
	}
}
