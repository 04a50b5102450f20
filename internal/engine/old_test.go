package engine_test

import (
	"testing"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// TestCountOld counts exactly what is little, and says so where a single lane has more than is looked at.
func TestCountOld(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publish := func(n int, key string) {
		t.Helper()
		if _, err := db.Pool.Exec(t.Context(), `
			insert into outbox.events (topic, key, payload)
			select case when i % 2 = 0 then 'a' else 'b' end, $2, '1' from generate_series(1, $1::integer) i`, n, key); err != nil {
			t.Fatal(err)
		}
	}
	s, conn := enginetest.Subscribe(t, db, "a"), db.Conn(t)
	for _, step := range []struct {
		add  int
		want int64
		more bool
	}{{0, 0, false}, {160, 80, false}, {1, 80, true}} {
		publish(step.add, "one key")
		if n, more, err := engine.CountOld(t.Context(), conn, s); err != nil || n != step.want || more != step.more {
			t.Errorf("after %d: %d, %t, %v; want %d, %t", step.add, n, more, err, step.want, step.more)
		}
	}
	publish(2, "another key")
	if n, more, err := engine.CountOld(t.Context(), conn, s); err != nil || n != 81 || !more {
		t.Errorf("%d, %t, %v; want 81 and more", n, more, err)
	}
}
