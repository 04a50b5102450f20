package engine_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// TestServerLock has connections of one server agree, and those of another database or without the control connection refused.
func TestServerLock(t *testing.T) {
	t.Parallel()
	db, other := pgtest.New(t), pgtest.New(t)
	open := func(db *pgtest.DB) *pgx.Conn {
		conn, err := pgx.ConnectConfig(t.Context(), db.Pool.Config().ConnConfig)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(t.Context()) })
		return conn
	}
	control, second := open(db), open(db)
	for range 20 { // keys of either sign
		w, err := engine.NewServerLock(t.Context(), control)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Check(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		if err := w.Check(t.Context(), open(other)); !errors.Is(err, engine.ErrOtherServer) {
			t.Fatalf("another database: got %v", err)
		}
	}
	w, err := engine.NewServerLock(t.Context(), control)
	if err != nil {
		t.Fatal(err)
	}
	if err := control.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for !errors.Is(w.Check(t.Context(), second), engine.ErrOtherServer) { // until the server has noticed, or the test has no time left
		if t.Context().Err() != nil {
			t.Fatal(t.Context().Err())
		}
	}
}
