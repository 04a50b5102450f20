package uid_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/internal/uid"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// end is the beginning of the year 10000, in microseconds.
var end = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// sample returns ids and times that are random, close to each other, or at the edges.
func sample(n int) (ids, micros []int64) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in each run
	ids = []int64{1, 1, 1<<46 - 1, 1 << 46, 1<<63 - 1, 2}
	micros = []int64{0, end - 1, 0, end - 1, 999, 1000}
	for range n {
		ids = append(ids, r.Int64N(1<<r.IntN(62)+1)+1)
		micros = append(micros, r.Int64N(end))
	}
	now := time.Now().UnixMicro()
	for i := range int64(3000) { // each microsecond of three milliseconds
		ids, micros = append(ids, 7), append(micros, now+i)
	}
	return ids, micros
}

// TestAgreesWithSQL compares Go's UIDs with those of function outbox.uid, for the tag of a database and for the lowest and the highest one.
func TestAgreesWithSQL(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ids, micros := sample(3000)
	times := make([]time.Time, len(micros))
	for i, n := range micros {
		times[i] = time.UnixMicro(n)
	}
	check := func() uint16 {
		var tag uint16
		rows, _ := db.Pool.Query(t.Context(), `
			select u.id, u.micros, outbox.tag(), outbox.uid(u.id, u.at)
			from unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) as u (id, micros, at)`, ids, micros, times)
		var (
			id, micro int64
			text      pgtype.UUID
			n         int
		)
		if _, err := pgx.ForEachRow(rows, []any{&id, &micro, &tag, &text}, func() error {
			if n++; text.String() != uid.Make(tag, id, micro) {
				t.Fatalf("event %d at %d with the tag %d: SQL says %s, Go %s", id, micro, tag, text, uid.Make(tag, id, micro))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if n != len(ids) {
			t.Fatalf("compared %d UIDs of %d", n, len(ids))
		}
		return tag
	}
	check()
	for _, want := range []string{"0", "65535"} {
		if _, err := db.Pool.Exec(t.Context(), `create or replace function outbox.tag() returns integer language sql stable as 'select `+want+`'`); err != nil {
			t.Fatal(err)
		}
		if got := strconv.Itoa(int(check())); got != want {
			t.Fatalf("the tag is %s, want %s", got, want)
		}
	}
}

// TestUIDs checks that UIDs differ where the time or the id does, sort by time and then by id, are of version 7, and give the id back.
func TestUIDs(t *testing.T) {
	t.Parallel()
	type event struct{ id, micros int64 }
	var events []event
	ids, micros := sample(20_000)
	for i := range ids {
		if ids[i] < 1<<46 {
			events = append(events, event{ids[i], micros[i]}, event{ids[i] + 1, micros[i]}, event{ids[i], micros[i] + 1})
		}
	}
	slices.SortFunc(events, func(a, b event) int {
		if a.micros != b.micros {
			return int(min(1, max(-1, a.micros-b.micros)))
		}
		return int(min(1, max(-1, a.id-b.id)))
	})
	events = slices.Compact(events)
	last := ""
	for _, e := range events {
		if e.id == 1<<46 || e.micros == end {
			continue
		}
		text := uid.Make(0xbeef, e.id, e.micros)
		if text <= last {
			t.Fatalf("%s of %+v does not come after %s", text, e, last)
		}
		last = text
		if len(text) != uid.Len || text[14] != '7' || !strings.ContainsRune("89ab", rune(text[19])) {
			t.Fatalf("%s is no UUID of version 7", text)
		}
		for _, text := range []string{text, strings.ToUpper(text)} {
			if id, ok := uid.ID(text); !ok || id != e.id {
				t.Fatalf("the id in %s is %d (%v), want %d", text, id, ok, e.id)
			}
		}
	}
}

func TestNoUID(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "17", "0199f1b2-2b9c-7abc-8def-00000000001", "0199f1b2-2b9c-7abc-8def-0000000000012", "0199f1b2x2b9c-7abc-8def-000000000001",
		"0199f1b2-2b9c-4abc-8def-000000000001", "0199f1b2-2b9c-7abc-cdef-000000000001", "0199f1b2-2b9c-7abc-8def-00000000000g",
		"0199f1b22b9c7abc8def000000000001----", "{199f1b2-2b9c-7abc-8def-00000000000}",
	} {
		if id, ok := uid.ID(text); ok {
			t.Errorf("the id in %q is %d, want none", text, id)
		}
	}
}

// TestPublishedAt checks that an event cannot have a time that no UID has, and that the error says so.
func TestPublishedAt(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, at := range []string{"infinity", "-infinity", "1969-12-31 23:59:59.999999+00", "10000-01-01 00:00:00+00"} {
		_, err := db.Pool.Exec(t.Context(), `insert into outbox.events (topic, payload, published_at) values ('a', '1', $1::text::timestamptz)`, at)
		if err == nil || !strings.Contains(err.Error(), "published_at_1970_to_9999") {
			t.Errorf("published at %s: %v, want a violation of published_at_1970_to_9999", at, err)
		}
	}
	for _, at := range []string{"1970-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"} {
		if _, err := db.Pool.Exec(t.Context(), `insert into outbox.events (topic, payload, published_at) values ('a', '1', $1::text::timestamptz)`, at); err != nil {
			t.Errorf("published at %s: %v", at, err)
		}
	}
}
