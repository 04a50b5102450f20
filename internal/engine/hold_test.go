package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// A holding is a member whose keys are held. In a fresh database, ids begin with 1.
type holding struct {
	t      *testing.T
	db     *pgtest.DB
	s      engine.Subscription
	m      *engine.Member
	worker int64
}

func newHolding(t *testing.T) *holding {
	t.Helper()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, "a")
	m, worker := enginetest.Member(t, db, s)
	return &holding{t, db, s, m, worker}
}

func (h *holding) publish(keys ...string) {
	h.t.Helper()
	for _, key := range keys {
		enginetest.Publish(h.t, h.db.Pool, key)
	}
}

// begin begins a transaction and publishes in it.
func (h *holding) begin(keys ...string) pgx.Tx {
	h.t.Helper()
	tx, err := h.db.Conn(h.t).Begin(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	for _, key := range keys {
		enginetest.Publish(h.t, tx, key)
	}
	return tx
}

func (h *holding) commit(tx pgx.Tx) {
	h.t.Helper()
	if err := tx.Commit(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *holding) read(limit int) *engine.Window {
	h.t.Helper()
	w, err := h.m.Read(h.t.Context(), limit)
	if err != nil {
		h.t.Fatal(err)
	}
	return w
}

func (h *holding) settle(s engine.Settlement) {
	h.t.Helper()
	if err := h.m.Settle(h.t.Context(), s); err != nil {
		h.t.Fatal(err)
	}
}

// hold reads what there is, and settles it with all of the keys held from their first event on.
func (h *holding) hold(keys ...string) {
	h.t.Helper()
	w := h.read(1000)
	s := engine.Settlement{Window: w}
	for _, key := range keys {
		at := slices.IndexFunc(w.Events, func(e engine.Event) bool { return e.Key == key })
		e := w.Events[at]
		if !w.New(&e) {
			h.t.Fatalf("event %d is taken for late", e.ID)
		}
		s.Holds = append(s.Holds, engine.Hold{Lane: e.Lane, Key: key, From: e.ID})
	}
	h.settle(s)
}

func (h *holding) lane(key string) (lane int16) {
	h.t.Helper()
	if err := h.db.Pool.QueryRow(h.t.Context(), `select hashtext($1) & 63`, key).Scan(&lane); err != nil {
		h.t.Fatal(err)
	}
	return lane
}

// neighbours returns keys that are in one lane.
func (h *holding) neighbours(n int) []string {
	h.t.Helper()
	rows, _ := h.db.Pool.Query(h.t.Context(), `select 'n' || i from generate_series(1, 1000) i where hashtext('n' || i) & 63 = 5 limit $1`, n)
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(keys) != n {
		h.t.Fatal(keys, err)
	}
	return keys
}

// A filling is one key's part of a refill.
type filling struct {
	limit int // events to look at
	ahead *engine.Window
	keep  time.Duration
}

// refill refills one key, and checks what becomes of it.
func (h *holding) refill(what, key string, rows int, f filling, want engine.Refill) {
	h.t.Helper()
	if f.limit == 0 {
		f.limit = 1000
	}
	if f.keep == 0 {
		f.keep = -1
	}
	got, err := h.m.Refill(h.t.Context(), h.lane(key), []engine.Want{{Key: key, Rows: rows}}, h.m.Decided(f.ahead), f.limit, f.keep, false)
	if err != nil {
		h.t.Fatal(err)
	}
	if want.Key = key; len(got) != 1 || got[0] != want {
		h.t.Errorf("%s: refilled %+v, want %+v", what, got, want)
	}
}

// rows checks which events have deliveries.
func (h *holding) rows(what string, want ...int64) {
	h.t.Helper()
	rows, _ := h.db.Pool.Query(h.t.Context(), `select d.event_id from outbox.deliveries d order by d.event_id`)
	got, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil || !slices.Equal(got, want) {
		h.t.Errorf("%s: deliveries %v, %v; want %v", what, got, err, want)
	}
}

// held checks from where on keys are held.
func (h *holding) held(what string, want map[string]int64) {
	h.t.Helper()
	rows, _ := h.db.Pool.Query(h.t.Context(), `select h.key, h.from_id from outbox.held_keys h`)
	got := map[string]int64{}
	var key string
	var from int64
	if _, err := pgx.ForEachRow(rows, []any{&key, &from}, func() error { got[key] = from; return nil }); err != nil || !maps.Equal(got, want) {
		h.t.Errorf("%s: held %v, %v; want %v", what, got, err, want)
	}
}

func (h *holding) exec(sql string, args ...any) {
	h.t.Helper()
	if _, err := h.db.Pool.Exec(h.t.Context(), sql, args...); err != nil {
		h.t.Fatal(err)
	}
}

// ids lists them from one to another.
func ids(from, to int64) (list []int64) {
	for id := from; id <= to; id++ {
		list = append(list, id)
	}
	return list
}

// TestRefill takes a held key from the log in parts: in order, no more than there is room for, and only what matches the
// subscription's topics. The hold ends with the cursor that is settled, also when a window was read ahead of it.
func TestRefill(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	h.publish("k", "k", "k", "other", "k")
	if _, err := outbox.Publish(t.Context(), h.db.Pool, outbox.Event{Topic: "b", Key: "k", Payload: json.RawMessage(`1`)}); err != nil {
		t.Fatal(err)
	}
	h.publish("k")
	h.hold("k")
	h.held("at first", map[string]int64{"k": 1})

	h.publish("k", "k")
	ahead := h.read(1000)
	if len(ahead.Events) != 2 {
		t.Fatalf("%d events were read ahead", len(ahead.Events))
	}
	h.refill("no room", "k", 0, filling{ahead: ahead}, engine.Refill{From: 1})
	h.rows("no room")
	h.refill("two", "k", 2, filling{ahead: ahead}, engine.Refill{Rows: 2, From: 3})
	h.rows("two", 1, 2)
	h.refill("one", "k", 1, filling{ahead: ahead}, engine.Refill{Rows: 1, From: 5})
	h.refill("the rest of what is settled", "k", 10, filling{ahead: ahead}, engine.Refill{Rows: 2})
	h.rows("the rest", 1, 2, 3, 5, 7)
	h.held("nothing is left below the cursor", nil)

	// What was read ahead is decided now: it may begin a hold anew.
	e := ahead.Events[0]
	h.settle(engine.Settlement{Window: ahead, Holds: []engine.Hold{{Lane: e.Lane, Key: "k", From: e.ID}}})
	h.refill("the window that was ahead", "k", 10, filling{}, engine.Refill{Rows: 2})
	h.rows("all", 1, 2, 3, 5, 7, 8, 9)
}

// TestRefillPassesPending refills while a transaction is pending whose events are in the middle of a held key. It is the cursor's:
// a refill that took its event, which a read takes as well, would have it handled twice.
func TestRefillPassesPending(t *testing.T) {
	t.Parallel()
	t.Run("found by a read later", func(t *testing.T) {
		t.Parallel()
		h := newHolding(t)
		h.publish("k")
		late := h.begin("k") // 2
		h.publish("k", "k")
		h.hold("k")
		h.commit(late)
		h.refill("after the commit", "k", 10, filling{}, engine.Refill{Rows: 3})
		h.rows("what was pending is left out", 1, 3, 4)
		w := h.read(1000)
		if len(w.Events) != 1 || w.Events[0].ID != 2 || w.New(&w.Events[0]) {
			t.Errorf("the read finds %+v, want the late event, as late", w.Events)
		}
	})
	t.Run("found by a read ahead", func(t *testing.T) {
		t.Parallel()
		h := newHolding(t)
		h.publish("k")
		late := h.begin("k")
		h.publish("k", "k")
		h.hold("k")
		h.commit(late)
		ahead := h.read(1000)
		if len(ahead.Events) != 1 || ahead.New(&ahead.Events[0]) {
			t.Fatalf("read %+v, want the late event, as late", ahead.Events)
		}
		h.refill("with the window ahead", "k", 10, filling{ahead: ahead}, engine.Refill{Rows: 3})
		h.rows("the late event is the window's", 1, 3, 4)
	})
	t.Run("settled, and left to the hold", func(t *testing.T) {
		t.Parallel()
		h := newHolding(t)
		h.publish("k")
		late := h.begin("k")
		h.publish("k", "k")
		h.hold("k")
		h.commit(late)
		h.settle(engine.Settlement{Window: h.read(1000)}) // at or above the hold, so nothing is to be done about it
		h.refill("no longer pending", "k", 10, filling{}, engine.Refill{Rows: 4})
		h.rows("all", 1, 2, 3, 4)
	})
}

// TestRefillPassesLate refills while cursors catch up with a transaction that commits late and has more events than a window.
func TestRefillPassesLate(t *testing.T) {
	t.Parallel()
	const giant = 30
	h := newHolding(t)
	h.publish("k") // 1
	late := h.begin(slices.Repeat([]string{"k"}, giant)...)
	h.publish("k", "k") // 32, 33
	h.hold("k")
	h.commit(late)
	w := h.read(8)
	if len(w.Events) == 0 || len(w.Events) >= giant || !w.More() {
		t.Fatalf("the window has %d events", len(w.Events))
	}
	h.settle(engine.Settlement{Window: w}) // all of it is left to the hold
	last := w.Events[len(w.Events)-1].ID
	rows := append(ids(1, last), 32, 33)
	h.refill("while it catches up", "k", 100, filling{}, engine.Refill{Rows: len(rows)})
	h.rows("what is late is left out", rows...)
	var rest []int64
	for w.More() { // in turns with the other lanes
		w = h.read(8)
		for i := range w.Events {
			if rest = append(rest, w.Events[i].ID); w.New(&w.Events[i]) {
				t.Errorf("event %d would begin a hold", w.Events[i].ID)
			}
		}
		h.settle(engine.Settlement{Window: w})
	}
	if !slices.Equal(rest, ids(last+1, 31)) {
		t.Errorf("%v are read, want those after %d", rest, last)
	}
}

// TestRefillWalksOnce refills all held keys of a lane in one walk, of so many events at a time, and moves all of them past what it has
// looked at.
func TestRefillWalksOnce(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	keys := h.neighbours(4) // a, b, c, and one that has no more events
	a, b, c, none := keys[0], keys[1], keys[2], keys[3]
	h.publish(a, b, a, b, c, none, a, b, a, b, a, c) // 1 to 12
	h.hold(a, b, c, none)
	lane := h.lane(a)
	refill := func(what string, limit int, wants []engine.Want, want ...engine.Refill) {
		t.Helper()
		got, err := h.m.Refill(t.Context(), lane, wants, h.m.Decided(nil), limit, -1, false)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, func(x, y engine.Refill) int { return slices.Index(keys, x.Key) - slices.Index(keys, y.Key) })
		if !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	refill("the first five", 5, []engine.Want{{a, 1}, {b, 9}, {none, 9}},
		engine.Refill{Key: a, Rows: 1, From: 3}, engine.Refill{Key: b, Rows: 2, From: 6}) // nothing of the one that is held from 6 on
	h.rows("the first five", 1, 2, 4)
	h.held("the first five", map[string]int64{a: 3, b: 6, c: 5, none: 6})
	refill("from the lowest on, to the end", 100, []engine.Want{{a, 2}, {b, 1}, {c, 9}, {none, 9}},
		engine.Refill{Key: a, Rows: 2, From: 9}, engine.Refill{Key: b, Rows: 1, From: 10}, engine.Refill{Key: c, Rows: 2}, engine.Refill{Key: none, Rows: 1})
	h.rows("to the end", 1, 2, 3, 4, 5, 6, 7, 8, 12)
	h.held("to the end", map[string]int64{a: 9, b: 10})
}

// TestRefillOfOld copies what is older than the retention, however little room there is, so that the log can go. It is taken in order:
// what is younger and comes before holds back what is older and comes after.
func TestRefillOfOld(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	h.publish(slices.Repeat([]string{"k"}, 10)...)
	h.hold("k")
	enginetest.Age(t, h.db, 6)
	h.exec(`update outbox.events set published_at = now() - interval '2 hours' where id = 8`) // with a slower statement than 7
	line := func() engine.Line {
		t.Helper()
		lines, err := h.m.Lines(t.Context(), h.m.Lanes(), time.Hour)
		if err != nil || len(lines) != 1 {
			t.Fatal(lines, err)
		}
		return lines[0]
	}
	if l := line(); !l.Old || l.From != 1 || l.Key != "k" || l.Count != 0 {
		t.Errorf("loaded %+v, want what is held from 1 on, and old", l)
	}
	h.refill("the first four that it looks at", "k", 0, filling{keep: time.Hour, limit: 4}, engine.Refill{Rows: 4, From: 5, Old: true})
	h.refill("the others", "k", 0, filling{keep: time.Hour}, engine.Refill{Rows: 2, From: 7})
	h.rows("what is old", ids(1, 6)...)
	if l := line(); l.Old || l.From != 7 || l.Count != 6 {
		t.Errorf("loaded %+v, want what is held from 7 on, and young", l)
	}
	enginetest.Age(t, h.db, 7)
	h.refill("and those behind", "k", 0, filling{keep: time.Hour}, engine.Refill{Rows: 2, From: 9})
	h.refill("where everything is kept", "k", 0, filling{}, engine.Refill{From: 9})
	h.rows("all that is old", ids(1, 8)...)
}

// TestTrimAroundHeld has a key held for longer than the retention: what is held of it stays, and the rest of its lane goes as soon as
// its owner has copied that.
func TestTrimAroundHeld(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	keys := h.neighbours(2)
	held, other := keys[0], keys[1]
	h.publish(other, other, held, other, held, other) // 1 to 6, in one lane
	h.hold(held)
	enginetest.Age(t, h.db, 6)
	if left := enginetest.TrimAll(t, h.db, false); !slices.Equal(left, ids(3, 6)) {
		t.Errorf("events %v are left, want what is held, and what is behind", left)
	}
	h.refill("what is old", held, 0, filling{keep: time.Hour}, engine.Refill{Rows: 2})
	if left := enginetest.TrimAll(t, h.db, false); len(left) != 0 {
		t.Errorf("events %v are left, and all of them have been settled or copied", left)
	}
	h.rows("copies", 3, 5)

	// One that goes on being held: new events of its lane expire as those before.
	h.publish(held, other, held, other) // 7 to 10
	h.hold(held)
	enginetest.Age(t, h.db, 8)
	h.refill("the older half", held, 0, filling{keep: time.Hour}, engine.Refill{Rows: 1, From: 9})
	if left := enginetest.TrimAll(t, h.db, false); !slices.Equal(left, ids(9, 10)) {
		t.Errorf("events %v are left", left)
	}
	h.rows("copies", 3, 5, 7)
}

// TestRewindOfHeld goes back, behind one hold and in the middle of another: what comes after is handled again, once.
func TestRewindOfHeld(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	h := newHolding(t)
	keys := h.neighbours(2)
	early, late := keys[0], keys[1]
	h.publish(early, early, late) // 1 to 3
	enginetest.Settle(t, h.m, 3)
	h.publish(early, early, late, late, late, late, early) // 4 to 10: early is held from 4, late from 8
	w := h.read(1000)
	var first, second engine.Event
	for _, e := range w.Events {
		switch e.ID {
		case 4:
			first = e
		case 8:
			second = e
		}
	}
	s := engine.Settlement{Window: w, Holds: []engine.Hold{{Lane: first.Lane, Key: early, From: 4}, {Lane: second.Lane, Key: late, From: 8}}}
	for _, e := range w.Events {
		if e.Key == late && e.ID < 8 {
			s.Unfinished = append(s.Unfinished, engine.Unfinished{Event: e})
		}
	}
	h.settle(s)
	h.rows("the line of the later one", 6, 7)
	if _, err := engine.Evict(ctx, h.db.Conn(t), h.worker, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Rewind(ctx, h.db.Pool, "s", outbox.FromID(6)); err != nil {
		t.Fatal(err)
	}
	h.held("one begins at or below 5", map[string]int64{early: 4})
	h.rows("those from 6 on are read again")

	h.m, h.worker = enginetest.Member(t, h.db, h.s)
	w = h.read(1000)
	handled := map[int64]int{}
	for _, e := range w.Events {
		if e.Key == early && e.ID >= 4 {
			continue // left to its hold
		}
		handled[e.ID]++
	}
	h.settle(engine.Settlement{Window: w})
	h.refill("the one that stays", early, 100, filling{}, engine.Refill{Rows: 3})
	h.rows("of the one that stays", 4, 5, 10)
	if want := map[int64]int{6: 1, 7: 1, 8: 1, 9: 1}; !maps.Equal(handled, want) {
		t.Errorf("read %v, want %v", handled, want)
	}
}

// TestAdoptHeld adopts a log while a transaction is pending that has events above and below where its keys are held: those below
// become deliveries, and those above are the holds'.
func TestAdoptHeld(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	h := newHolding(t)
	below := h.begin("k") // 1
	h.publish("k")
	above := h.begin("k", "free") // 3, 4
	h.publish("k")
	h.hold("k")
	h.commit(below)
	h.commit(above)
	h.exec(`update outbox.cluster set system_identifier = 1`)
	if mended, err := engine.Mend(ctx, h.db.Conn(t), engine.Restore); err != nil || !mended.Adopted {
		t.Fatal(mended, err)
	}
	h.rows("adopted", 1, 4)
	h.held("adopted", map[string]int64{"k": 2})
	s := enginetest.Subscribe(t, h.db, "a") // with the log's floor
	h.m, h.worker = enginetest.Member(t, h.db, s)
	h.refill("what is held", "k", 100, filling{}, engine.Refill{Rows: 3})
	h.rows("all, once", 1, 2, 3, 4, 5)
	enginetest.Settle(t, h.m, 0)
}

// TestReplayWithinHold replays a key that is held: what the hold has is yet to be handled, and is passed over.
func TestReplayWithinHold(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	h := newHolding(t)
	h.publish("k", "k", "other")
	enginetest.Settle(t, h.m, 3)
	h.publish("k", "k", "other") // 4 to 6
	h.hold("k")
	if n, err := admin.CountReplay(ctx, h.db.Pool, "s", admin.EventFilter{}); err != nil || n.Events != 4 {
		t.Errorf("%+v, %v would be replayed, want the 4 that are settled", n, err)
	}
	if done, err := admin.Replay(ctx, h.db.Pool, "s", admin.EventFilter{}, admin.ReplayOptions{}); err != nil || done.Events != 4 {
		t.Errorf("%d are replayed, %v; want the 4 that are settled", done.Events, err)
	}
	h.rows("without what is held", 1, 2, 3, 6)
	h.refill("what is held", "k", 100, filling{}, engine.Refill{Rows: 2})
	h.rows("all, once", 1, 2, 3, 4, 5, 6)
}

// TestTakeoverOfHeld evicts the owner of a held key, and has a worker release its lanes: the hold stays, and the next owner goes on
// with it. Who was evicted refills nothing.
func TestTakeoverOfHeld(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	h := newHolding(t)
	h.publish("k", "k", "k", "k")
	h.hold("k")
	h.refill("the first owner", "k", 1, filling{}, engine.Refill{Rows: 1, From: 2})
	if _, err := engine.Evict(ctx, h.db.Conn(t), h.worker, "test"); err != nil {
		t.Fatal(err)
	}
	if got, err := h.m.Refill(ctx, h.lane("k"), []engine.Want{{Key: "k", Rows: 10}}, h.m.Decided(nil), 100, -1, false); err == nil {
		t.Errorf("evicted, it refills %+v", got)
	}
	h.rows("by the first owner", 1)
	for from := int64(2); from <= 3; from++ {
		h.m, h.worker = enginetest.Member(t, h.db, h.s)
		lines, err := h.m.Lines(ctx, h.m.Lanes(), -1)
		if want := (engine.Line{Lane: h.lane("k"), Key: "k", Count: int(from) - 1, From: from}); err != nil || !slices.Equal(lines, []engine.Line{want}) {
			t.Errorf("loaded %+v, %v; want %+v", lines, err, want)
		}
		enginetest.Settle(t, h.m, 0)
		h.refill(fmt.Sprint("the next owner, from ", from), "k", 1, filling{}, engine.Refill{Rows: 1, From: from + 1})
		if _, err := h.m.Release(context.WithoutCancel(ctx), engine.Lanes); err != nil {
			t.Fatal(err)
		}
	}
	h.rows("by three owners", 1, 2, 3)
	h.held("by three owners", map[string]int64{"k": 4})
}
