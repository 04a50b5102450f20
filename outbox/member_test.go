package outbox_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// subscribe returns the test's subscription s, from the beginning of the log.
func subscribe(t *testing.T, db *pgtest.DB, topics ...string) outbox.Subscription {
	t.Helper()
	s, err := outbox.Subscribe(t.Context(), db.Pool, "s", topics, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// member joins and claims what it can.
func member(t *testing.T, db *pgtest.DB, s outbox.Subscription) (*outbox.Member, int64) {
	t.Helper()
	id, err := outbox.Join(t.Context(), db.Conn(t), t.Name(), true, []int32{s.ID})
	if err != nil {
		t.Fatal(err)
	}
	m := outbox.NewMember(db.Conn(t), id, s)
	if _, err := m.Claim(t.Context(), outbox.Lanes); err != nil {
		t.Fatal(err)
	}
	return m, id
}

func publishOne(t *testing.T, db outbox.DB, key string) {
	t.Helper()
	if _, err := outbox.Publish(t.Context(), db, outbox.Event{Topic: "a", Key: key, Payload: json.RawMessage(`1`)}); err != nil {
		t.Fatal(err)
	}
}

// settle reads until nothing is left, and checks how many events that were.
func settle(t *testing.T, m *outbox.Member, want int) (events []outbox.LaneEvent) {
	t.Helper()
	for {
		w, err := m.Read(context.Background(), 100)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, w.Events...)
		if w.Empty() {
			break
		}
		if err := m.Settle(context.Background(), outbox.Settlement{Window: w}); err != nil {
			t.Fatal(err)
		}
	}
	if len(events) != want {
		t.Fatalf("read %d events, want %d", len(events), want)
	}
	return events
}

// TestDeepHeaders publishes, in SQL, what encoding/json refuses to read. It is delivered like any other event.
func TestDeepHeaders(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	deep := `{"a": ` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`
	if _, err := db.Pool.Exec(t.Context(), `insert into outbox.events (topic, payload, headers) values ('a', '1', $1::text::jsonb), ('a', '2', '{}')`, deep); err != nil {
		t.Fatal(err)
	}
	m, _ := member(t, db, subscribe(t, db, "a"))
	w, err := m.Read(t.Context(), 10)
	if err != nil || len(w.Events) != 2 {
		t.Fatalf("read %+v, %v", w, err)
	}
	if got := w.Events[0].Headers; len(got) != 1 || got[""] != deep {
		t.Errorf("the headers are %.100v", got)
	}
}
