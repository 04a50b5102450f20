package engine_test

import (
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestWorkers has a second worker join and leave: a heartbeat of the first says how many have to be told what was published.
func TestWorkers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, err := engine.Subscribe(t.Context(), db.Pool, "s", []string{">"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	join := func(name string) int64 {
		id, err := engine.Join(t.Context(), db.Conn(t), name, true, time.Hour, []int32{s.ID})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first, control := join("first"), db.Conn(t)
	workers := func(want int) {
		t.Helper()
		if p, err := engine.Beat(t.Context(), control, first, false); err != nil || p.Workers != want {
			t.Errorf("%d workers, %v; want %d", p.Workers, err, want)
		}
	}
	workers(1)
	second := join("second")
	workers(2)
	if _, err := engine.Evict(t.Context(), db.Conn(t), second, "the test is over"); err != nil {
		t.Fatal(err)
	}
	workers(1)
}
