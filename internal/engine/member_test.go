package engine_test

import (
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// TestDeepHeaders publishes what encoding/json refuses to read, as before a database had its checks, or without them. It is
// delivered like any other event.
func TestDeepHeaders(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	deep := `{"a": ` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`
	if _, err := db.Pool.Exec(t.Context(), `alter domain outbox.headers drop constraint headers_strings`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Pool.Exec(t.Context(), `insert into outbox.events (topic, payload, headers) values ('a', '1', $1::text::jsonb), ('a', '2', '{}')`, deep); err != nil {
		t.Fatal(err)
	}
	m, _ := enginetest.Member(t, db, enginetest.Subscribe(t, db, "a"))
	w, err := m.Read(t.Context(), 10)
	if err != nil || len(w.Events) != 2 {
		t.Fatalf("read %+v, %v", w, err)
	}
	if got := w.Events[0].Headers; len(got) != 1 || got[""] != deep {
		t.Errorf("the headers are %.100v", got)
	}
}
