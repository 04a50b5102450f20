package engine_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// most is what a window, or a claim, may have in bytes: 16 MiB, and one row more.
const most = 17<<20 + 1<<16

// fillLarge publishes n events of about 1 MB, which PostgreSQL compresses to a hundredth: key is an SQL expression of n.
func fillLarge(t *testing.T, db *pgtest.DB, n int, key string) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), fmt.Sprintf(`
		insert into outbox.events (topic, key, payload) select 'large', %s, to_json(repeat('x', 1000000)) from generate_series(1, $1::integer) n`, key), n); err != nil {
		t.Fatal(err)
	}
}

func eventBytes(events []engine.Event) (n int) {
	for _, e := range events {
		n += len(e.Payload)
	}
	return n
}

// TestLanesTakeTurns has more events of 1 MB in each lane than a few windows can have: no lane waits until others are empty.
func TestLanesTakeTurns(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	m, _ := enginetest.Member(t, db, enginetest.Subscribe(t, db, ">"))
	fillLarge(t, db, 3*engine.Lanes, "null")
	served := map[int16]int{}
	reads := 0
	for ; len(served) < engine.Lanes && reads < 20; reads++ {
		w, err := m.Read(ctx, 5120)
		if err != nil {
			t.Fatal(err)
		}
		if n := eventBytes(w.Events); n > most {
			t.Fatalf("a window has %d events of %d bytes", len(w.Events), n)
		}
		for _, e := range w.Events {
			served[e.Lane]++
		}
	}
	if reads > 6 { // 4 windows, and one that finds only that events are long
		t.Errorf("%d lanes were served in %d reads: %v", len(served), reads, served)
	}
	for lane, n := range served {
		if n > 2 {
			t.Errorf("lane %d was served %d times before each had its turn", lane, n)
		}
	}
}

// TestClaimsAreBounded retries 200 events of 1 MB, of three keys and of none: each claim takes about a window's bytes, each key
// stays in order, and all of them are handled.
func TestClaimsAreBounded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	m, _ := enginetest.Member(t, db, enginetest.Subscribe(t, db, ">"))
	fillLarge(t, db, 200, "nullif(n % 4, 0)::text")
	if _, err := db.Pool.Exec(ctx, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at)
		select 1, id, lane, topic, key, payload, headers, published_at, 'retrying', now() from outbox.events`); err != nil {
		t.Fatal(err)
	}
	lines, err := m.Lines(ctx, slices.Collect(allLanes), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]int64{}
	handled, claims := 0, 0
	for handled < 200 {
		due, _, err := m.ClaimDue(ctx, lines, 64, engine.Suspects{Alone: true}, nil)
		if err != nil || len(due) == 0 {
			t.Fatalf("after %d: claimed %d, %v", handled, len(due), err)
		}
		claims++
		var events []engine.Event
		var ids []int64
		for _, d := range due {
			events, ids = append(events, d.Event), append(ids, d.Event.ID)
			if key := d.Event.Key; key != "" {
				var passed int
				if err := db.Pool.QueryRow(ctx, `select count(*) from outbox.deliveries d where d.key = $1 and d.event_id > $2 and d.event_id < $3`,
					key, last[key], d.Event.ID).Scan(&passed); err != nil || passed != 0 {
					t.Errorf("key %s: event %d passed %d others, %v", key, d.Event.ID, passed, err)
				}
				last[key] = d.Event.ID
			}
		}
		if n := eventBytes(events); n > most {
			t.Fatalf("a claim has %d events of %d bytes", len(due), n)
		}
		if err := m.Settle(ctx, engine.Settlement{Delivered: ids}); err != nil {
			t.Fatal(err)
		}
		handled += len(due)
	}
	if claims < 12 {
		t.Errorf("%d claims for 200 MB", claims)
	}
}

// TestSuspectsAreBounded claims events of 1 MB whose worker died while they ran: few at a time, and whatever else is due.
func TestSuspectsAreBounded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	m, _ := enginetest.Member(t, db, enginetest.Subscribe(t, db, ">"))
	fillLarge(t, db, 40, "null")
	if _, err := db.Pool.Exec(ctx, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, payload, headers, published_at, state, due_at, suspect, attempt)
		select 1, id, lane, topic, payload, headers, published_at, 'retrying', now(), id > 30, 1 from outbox.events`); err != nil {
		t.Fatal(err)
	}
	lines, err := m.Lines(ctx, slices.Collect(allLanes), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	due, _, err := m.ClaimDue(ctx, lines, 64, engine.Suspects{Together: 2, Limit: 64}, nil)
	if err != nil {
		t.Fatal(err)
	}
	suspects := 0
	for _, d := range due {
		if d.Suspect {
			suspects++
		}
	}
	if suspects != 2 || len(due)-suspects != 17 {
		t.Errorf("claimed %d, of which %d are suspects; want 17 and 2", len(due)-suspects, suspects)
	}
}

func allLanes(yield func(int16) bool) {
	for lane := range int16(engine.Lanes) {
		if !yield(lane) {
			return
		}
	}
}

// A countingConn counts what the server has sent.
type countingConn struct {
	net.Conn
	received *atomic.Int64
}

func (c countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, err
}

// countedMember joins and claims what it can, over a connection that counts what the server sends.
func countedMember(t *testing.T, db *pgtest.DB) (*engine.Member, *atomic.Int64) {
	t.Helper()
	sub := enginetest.Subscribe(t, db, ">")
	received := new(atomic.Int64)
	cfg, err := pgx.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return countingConn{c, received}, err
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	id, err := engine.Join(t.Context(), db.Conn(t), t.Name(), true, time.Hour, []int32{sub.ID})
	if err != nil {
		t.Fatal(err)
	}
	m := engine.NewMember(conn, id, sub)
	if _, err := m.Claim(t.Context(), engine.Lanes); err != nil {
		t.Fatal(err)
	}
	return m, received
}

// TestHeadersAreBounded reads 3,000 events with headers of 64 kB each, of which the member knows nothing.
func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	m, received := countedMember(t, db)
	if _, err := db.Pool.Exec(ctx, `
		insert into outbox.events (topic, payload, headers)
		select 'a', '1', (select jsonb_build_object('a', string_agg(md5(i::text), '')) from generate_series(1, 2000) i) from generate_series(1, 3000)`); err != nil {
		t.Fatal(err)
	}
	for seen, reads := 0, 0; seen < 3000; reads++ {
		before := received.Load()
		w, err := m.Read(ctx, 5120)
		if err != nil || reads > 300 {
			t.Fatal(reads, err)
		}
		if n := received.Load() - before; n > 4*16<<20+8<<20 {
			t.Errorf("read %d: the server sent %d bytes", reads, n)
		}
		if seen += len(w.Events); seen < 3000 && !w.More() {
			t.Fatalf("%d of 3000 events, and no more to read", seen)
		}
	}
}

// TestReadsAreBounded reads 300 events of 1 MB, of which the member knows nothing, and small ones between them. No read makes the server send more
// than four windows, or one event of each lane; every window is bounded; nothing is missed, and each lane is in order. Half of the
// events become visible late.
func TestReadsAreBounded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	m, received := countedMember(t, db)

	const some = `insert into outbox.events (topic, payload) select 'a', to_json(case when n % 4 < 3 then repeat('x', 1000000) else 'small' end) from generate_series(1, 200) n`
	late, err := db.Conn(t).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := late.Exec(ctx, some); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Pool.Exec(ctx, some); err != nil {
		t.Fatal(err)
	}
	seen := map[int64]bool{}
	read := func(want int) {
		last := map[int16]int64{}
		for reads := 0; len(seen) < want; reads++ {
			before := received.Load()
			w, err := m.Read(ctx, 5120)
			if err != nil || reads > 300 {
				t.Fatal(reads, err)
			}
			if n := received.Load() - before; n > 4*16<<20+8<<20 {
				t.Errorf("read %d: the server sent %d bytes", reads, n)
			}
			if n := eventBytes(w.Events); n > most {
				t.Errorf("read %d: a window of %d bytes", reads, n)
			}
			for _, e := range w.Events {
				if seen[e.ID] || e.ID < last[e.Lane] {
					t.Errorf("event %d came after %d, or twice", e.ID, last[e.Lane])
				}
				seen[e.ID], last[e.Lane] = true, e.ID
			}
			if len(seen) < want && !w.More() {
				t.Fatalf("%d of %d events, and no more to read", len(seen), want)
			}
		}
	}
	read(200)
	if err := late.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	read(400)
}
