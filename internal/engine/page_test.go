package engine_test

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// sharing has the members read their backlogs together.
func sharing(members []*engine.Member) {
	pages := engine.NewPages(1 << 20)
	for _, m := range members {
		m.Share(pages, 10_000)
	}
}

func readOne(t *testing.T, m *engine.Member, limit int) *engine.Window {
	t.Helper()
	w, err := m.Read(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func idsOf(events []engine.Event) (list []int64) {
	for i := range events {
		list = append(list, events[i].ID)
	}
	return list
}

// publishMany publishes so many events of each topic, with keys in many lanes.
func publishMany(t *testing.T, db *pgtest.DB, n int, topics ...string) {
	t.Helper()
	_, err := db.Pool.Exec(t.Context(), `
		insert into outbox.events (topic, key, payload)
		select topic, 'k' || i, '{"n": 1}' from generate_series(1, $1::integer) i, unnest($2::text[]) topic`, n, topics)
	if err != nil {
		t.Fatal(err)
	}
}

// TestPages has members of three subscriptions with topics of their own work off a backlog: each gets what is its own, once, and what one
// has read serves the others.
func TestPages(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const each, limit = 300, 100
	publishMany(t, db, each, "x.a", "x.b", "y.a")
	_, members := crewOf(t, db, []string{"all", "x", "y"}, [][]string{{">"}, {"x.*"}, {"y.a"}})
	sharing(members)
	want := []int{3 * each, 2 * each, each}
	got := make([][]int64, len(members))
	reads, windows := 0, 0
	for more := true; more; {
		more = false
		for i, m := range members {
			w := readOne(t, m, limit)
			if windows++; !w.Old() {
				reads++
			}
			for j := range w.Events {
				if string(w.Events[j].Payload) != `{"n": 1}` {
					t.Fatalf("%d is given a payload that another one has changed: %s", i, w.Events[j].Payload)
				}
				copy(w.Events[j].Payload, "changed!")
			}
			got[i] = append(got[i], idsOf(w.Events)...)
			more = more || !w.Empty()
		}
	}
	for i := range members {
		slices.Sort(got[i])
		if n := len(got[i]); n != want[i] || len(slices.Compact(got[i])) != n {
			t.Errorf("%d was given %d events, %d of them distinct; want %d", i, n, len(slices.Compact(got[i])), want[i])
		}
	}
	if t.Logf("there were %d reads for %d windows", reads, windows); 2*reads > windows {
		t.Errorf("there were %d reads for %d windows", reads, windows)
	}
}

// TestPagesOfOtherCursors has two members stand at the same id, of which one still waits for a transaction: it does not take what the
// other one, which has its events, has read there.
func TestPagesOfOtherCursors(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	_, members := crewOf(t, db, []string{"a", "b"}, [][]string{{">"}, {">"}})
	sharing(members)
	conn := db.Conn(t)
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const insert = `insert into outbox.events (topic, payload) values ('x.a', '{}')`
	if _, err := tx.Exec(ctx, insert); err != nil {
		t.Fatal(err)
	}
	publishMany(t, db, 3, "x.a")
	got := make([][]int64, 2)
	read := func(i int) {
		w := readOne(t, members[i], 10_000)
		got[i] = append(got[i], idsOf(w.Events)...)
	}
	read(0)
	read(1)
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	read(1) // what is late
	publishMany(t, db, 5, "x.a")
	read(1)
	for range 3 {
		read(0)
	}
	for i := range got {
		if slices.Sort(got[i]); len(got[i]) != 9 || len(slices.Compact(got[i])) != 9 {
			t.Errorf("%d was given %v, want 9 events", i, got[i])
		}
	}
}

// TestPagesOfOtherTopics has a member come to where another one has read before its topics were known: it reads for itself.
func TestPagesOfOtherTopics(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishMany(t, db, 10, "x.a", "y.a")
	_, members := crewOf(t, db, []string{"a", "b"}, [][]string{{"x.a"}, {"x.a"}})
	sharing(members)
	if w := readOne(t, members[0], 1000); len(w.Events) != 10 {
		t.Fatalf("got %d events, want 10", len(w.Events))
	}
	if _, err := members[1].Release(t.Context(), engine.Lanes); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	err := pgx.BeginFunc(ctx, db.Conn(t), func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `alter table outbox.subscriptions disable trigger user`)
		if err == nil {
			_, err = tx.Exec(ctx, `update outbox.subscriptions set topics = '{x.a,y.a}' where name = 'b'`)
		}
		if err == nil {
			_, err = tx.Exec(ctx, `alter table outbox.subscriptions enable trigger user`)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := members[1].Rejoin(ctx, func([]string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if lanes, err := members[1].Claim(ctx, engine.Lanes); err != nil || len(lanes) != engine.Lanes {
		t.Fatal(lanes, err)
	}
	if w := readOne(t, members[1], 1000); len(w.Events) != 20 || w.Old() {
		t.Errorf("got %d events, read for another one: %v; want 20 of its own", len(w.Events), w.Old())
	}
}
