package engine_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// TestEndSessions ends the connections of a worker, and not those of the worker that has the same id in another outbox, nor of one whose
// id begins like it.
func TestEndSessions(t *testing.T) {
	t.Parallel()
	for _, ending := range []naming.Name{"", "billing"} {
		db := pgtest.New(t)
		conns := map[naming.Name]*pgx.Conn{}
		for _, n := range []naming.Name{"", "billing", "billing2"} {
			conns[n] = db.Conn(t)
			if _, err := conns[n].Exec(t.Context(), `select set_config('application_name', $1, false)`, engine.SessionName(n, 1, "handlers")); err != nil {
				t.Fatal(err)
			}
		}
		if err := engine.EndSessions(t.Context(), ending.Conn(db.Conn(t)), 1); err != nil {
			t.Fatal(err)
		}
		for n, conn := range conns {
			if err := conn.Ping(t.Context()); (err != nil) != (n == ending) {
				t.Errorf("ended those of %s: the connection of %s says %v", ending, n, err)
			}
		}
	}
}
