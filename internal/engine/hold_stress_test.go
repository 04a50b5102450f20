package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// The order in which two members and several publishers do things is drawn at random, one thing after the other, so that a seed repeats
// it. Lines are short, so that keys are held all the time.
const (
	heldRounds  = 4   // in parallel
	heldSteps   = 800 // of each
	heldKeys    = 4
	heldWriters = 4
	holdAbove   = 2
	heldFails   = 4 // one attempt in so many
)

// TestHeldKeysLoseNothing has few keys, transactions that commit late, some with more events than a window, windows that are read ahead,
// heads that fail, refills, claims, lanes that change hands, a retention of nothing, and owners that die. In the end, every committed event
// was handled, in the order of its key, and none twice, but for what an owner that died had not settled.
func TestHeldKeysLoseNothing(t *testing.T) {
	t.Parallel()
	for round := range heldRounds {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			newHeldWorld(t, seed).live(heldSteps)
		})
	}
}

// A heldEvent is what is known of a published event.
type heldEvent struct {
	key                  string
	published, committed int // when, by the world's clock; 0 for not committed
	handled              int // when first
	times, mayRepeat     int
}

type heldWriter struct {
	conn   *pgx.Conn
	tx     pgx.Tx
	events []*heldEvent
}

type heldWorld struct {
	t       *testing.T
	db      *pgtest.DB
	control *pgx.Conn
	s       engine.Subscription
	dice    *rand.Rand
	clock   int
	keys    []string
	writers [heldWriters]*heldWriter
	crew    [2]*heldWorker
	events  map[int64]*heldEvent
	holds   int // that were begun
	refills int // rows that refills have made
}

func newHeldWorld(t *testing.T, seed uint64) *heldWorld {
	t.Logf("seed %d", seed)
	db := pgtest.New(t)
	s, err := engine.Subscribe(t.Context(), db.Pool, "s", []string{"a"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	w := &heldWorld{t: t, db: db, control: db.Conn(t), s: s, dice: rand.New(rand.NewPCG(seed, 1)), events: map[int64]*heldEvent{}}
	// Several of them in one lane: a refill walks it for all of them.
	rows, _ := db.Pool.Query(t.Context(), `
		select k from (select 'k' || i as k from generate_series(1, 300) i) k where hashtext(k) & 63 in (7, 42) order by k limit $1`, heldKeys)
	if w.keys, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(w.keys) != heldKeys {
		t.Fatal(w.keys, err)
	}
	for i := range w.writers {
		w.writers[i] = &heldWriter{conn: db.Conn(t)}
	}
	for i := range w.crew {
		w.crew[i] = w.join()
	}
	return w
}

func (w *heldWorld) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *heldWorld) tick() int {
	w.clock++
	return w.clock
}

func (w *heldWorld) live(steps int) {
	for step := range steps {
		// Much is published for a while, so that keys are held, and little for another, so that holds come to their end.
		writes := 45
		if step/40%2 == 1 {
			writes = 12
		}
		if w.dice.IntN(100) < writes {
			w.write(w.writers[w.dice.IntN(heldWriters)])
			continue
		}
		who := w.crew[w.dice.IntN(len(w.crew))]
		switch n := w.dice.IntN(100); {
		case n < 26:
			who.work()
		case n < 56:
			who.refill()
		case n < 86:
			who.claimDue()
		case n < 90:
			w.check(who.settle())
		case n < 94:
			w.trim()
		case n < 97:
			who.rebalance(w.dice.IntN(engine.Lanes))
		default:
			w.die(w.dice.IntN(len(w.crew)))
		}
	}
	for _, p := range w.writers {
		for p.tx != nil {
			w.end(p)
		}
	}
	for quiet := 0; quiet < 3; {
		quiet++
		for n := range w.crew {
			w.crew[n].rebalance(engine.Lanes / 2)
			for range 4 {
				if w.crew[n].work() {
					quiet = 0
				}
				w.crew[n].refill()
				w.crew[n].claimDue() // and may die, so that another has its place
			}
			w.check(w.crew[n].settle())
			if len(w.crew[n].lines) > 0 {
				quiet = 0
			}
		}
		if w.tick() > 100_000 {
			w.t.Fatal("it comes to no end")
		}
	}
	w.judge()
}

// write begins a transaction, publishes in it, or ends it.
func (w *heldWorld) write(p *heldWriter) {
	if p.tx == nil {
		tx, err := p.conn.Begin(w.t.Context())
		w.check(err)
		p.tx = tx
	} else if w.dice.IntN(3) == 0 {
		w.end(p)
		return
	}
	n := 1 + w.dice.IntN(3)
	if w.dice.IntN(30) == 0 {
		n = 20 // more than a window
	}
	for range n {
		e := &heldEvent{key: w.keys[w.dice.IntN(len(w.keys))], published: w.tick()}
		stored, err := outbox.Publish(w.t.Context(), p.tx, outbox.Event{Topic: "a", Key: e.key, Payload: json.RawMessage(`1`)})
		w.check(err)
		w.events[stored[0].ID] = e
		p.events = append(p.events, e)
	}
}

func (w *heldWorld) end(p *heldWriter) {
	if w.dice.IntN(8) == 0 {
		w.check(p.tx.Rollback(w.t.Context()))
	} else {
		w.check(p.tx.Commit(w.t.Context()))
		for _, e := range p.events {
			e.committed = w.tick()
		}
	}
	p.tx, p.events = nil, nil
}

// trim deletes all that is settled, whatever its age.
func (w *heldWorld) trim() {
	lanes, err := engine.ExpiredLanes(w.t.Context(), w.db.Pool, 0, true)
	w.check(err)
	for _, lane := range lanes {
		_, err := engine.Trim(w.t.Context(), w.db.Pool, lane, 0, 1000, true)
		w.check(err)
	}
}

// die ends a worker as it is. What it has done and not settled is repeated.
func (w *heldWorld) die(n int) {
	dead := w.crew[n]
	for _, id := range dead.unsettled {
		w.events[id].mayRepeat++
	}
	_, err := engine.Evict(w.t.Context(), w.control, dead.id, "test")
	w.check(err)
	w.crew[n] = w.join()
}

func (w *heldWorld) judge() {
	byKey := map[string][]int64{}
	handled, repeated := 0, 0
	for id, e := range w.events {
		switch {
		case e.committed == 0 && e.times > 0:
			w.t.Errorf("event %d was handled, and not committed", id)
		case e.committed > 0 && e.times == 0:
			w.t.Errorf("event %d is lost", id)
		case e.times > 1+e.mayRepeat:
			w.t.Errorf("event %d was handled %d times", id, e.times)
		}
		if e.committed > 0 {
			byKey[e.key] = append(byKey[e.key], id)
			handled, repeated = handled+1, repeated+e.times-1
		}
	}
	for key, ids := range byKey {
		slices.Sort(ids)
		for i, id := range ids {
			for _, later := range ids[i+1:] {
				// Of transactions that overlap, neither comes before the other.
				if a, b := w.events[id], w.events[later]; a.committed < b.published && a.handled > b.handled {
					w.t.Errorf("%s: event %d was handled before event %d, which had been committed when it was published", key, later, id)
				}
			}
		}
	}
	var rows, holds int
	w.check(w.db.Pool.QueryRow(w.t.Context(), `select (select count(*) from outbox.deliveries), (select count(*) from outbox.held_keys)`).Scan(&rows, &holds))
	if rows+holds > 0 {
		w.t.Errorf("%d deliveries and %d holds are left", rows, holds)
	}
	w.t.Logf("%d events, %d repeated, %d holds, %d rows of refills", handled, repeated, w.holds, w.refills)
	if w.holds == 0 || w.refills == 0 {
		w.t.Error("no key was held: this shows nothing")
	}
}

// A heldWorker does what the runner of package worker does about lines and holds, in its barest form.
type heldWorker struct {
	w         *heldWorld
	id        int64
	m         *engine.Member
	lines     map[string]*engine.Line
	ahead     *engine.Window
	owed      engine.Settlement
	unsettled []int64 // what it has handled with success since
}

func (w *heldWorld) join() *heldWorker {
	conn := w.db.Conn(w.t)
	id, err := engine.Join(w.t.Context(), w.control, "test", true, time.Hour, []int32{w.s.ID})
	w.check(err)
	p := &heldWorker{w: w, id: id, m: engine.NewMember(conn, id, w.s), lines: map[string]*engine.Line{}}
	p.rebalance(engine.Lanes / 2)
	return p
}

func (p *heldWorker) settle() error {
	if p.owed.Empty() {
		return nil
	}
	err := p.m.Settle(context.Background(), p.owed)
	p.owed, p.unsettled = engine.Settlement{}, nil
	return err
}

// work decides what was read ahead, or reads a window. It reports whether there was something.
func (p *heldWorker) work() bool {
	if len(p.m.Lanes()) == 0 {
		return false
	}
	window := p.ahead
	if p.ahead = nil; window == nil {
		window = p.read()
	}
	if window.More() && p.w.dice.IntN(2) == 0 {
		p.ahead = p.read()
	}
	for i := range window.Events {
		e := &window.Events[i]
		if l := p.lines[e.Key]; l != nil {
			p.putOff(window, e, l)
		} else if !p.handle(e) {
			p.lines[e.Key] = &engine.Line{Lane: e.Lane, Key: e.Key, Count: 1}
			p.owed.Unfinished = append(p.owed.Unfinished, engine.Unfinished{Event: *e, Attempt: 1, InLog: p.w.dice.IntN(2) == 0})
		}
	}
	if !window.Empty() {
		p.owed.Window = window
	}
	if p.w.dice.IntN(2) == 0 {
		p.w.check(p.settle())
	}
	return !window.Empty() || window.More()
}

func (p *heldWorker) read() *engine.Window {
	window, err := p.m.Read(p.w.t.Context(), 3+p.w.dice.IntN(8))
	p.w.check(err)
	return window
}

func (p *heldWorker) putOff(window *engine.Window, e *engine.Event, l *engine.Line) {
	switch {
	case l.From != 0 && e.ID >= l.From:
	case l.From == 0 && l.Count >= holdAbove && window.New(e):
		l.From = e.ID
		p.owed.Holds = append(p.owed.Holds, engine.Hold{Lane: e.Lane, Key: e.Key, From: e.ID})
		p.w.holds++
	default:
		l.Count++
		p.owed.Unfinished = append(p.owed.Unfinished, engine.Unfinished{Event: *e, InLog: p.w.dice.IntN(2) == 0})
	}
}

// handle reports whether that succeeded.
func (p *heldWorker) handle(e *engine.Event) bool {
	if p.w.dice.IntN(heldFails) == 0 {
		return false
	}
	known := p.w.events[e.ID]
	if known == nil {
		p.w.t.Fatalf("event %d was never published", e.ID)
	}
	if known.times++; known.times == 1 {
		known.handled = p.w.tick()
	}
	p.unsettled = append(p.unsettled, e.ID)
	return true
}

// refill refills the lines that are short, lane by lane.
func (p *heldWorker) refill() {
	wants := map[int16][]engine.Want{}
	for _, key := range p.w.keys { // in their order, so that a seed repeats it
		if l := p.lines[key]; l != nil && l.From != 0 && l.Count < holdAbove {
			wants[l.Lane] = append(wants[l.Lane], engine.Want{Key: key, Rows: p.w.dice.IntN(3 * holdAbove)})
		}
	}
	if len(wants) == 0 {
		return
	}
	p.w.check(p.settle())
	keep := -time.Second
	if p.w.dice.IntN(6) == 0 {
		keep = 0
	}
	for _, lane := range []int16{7, 42} {
		if len(wants[lane]) == 0 {
			continue
		}
		refills, err := p.m.Refill(p.w.t.Context(), lane, wants[lane], p.m.Decided(p.ahead), 1+p.w.dice.IntN(12), keep, p.w.dice.IntN(2) == 0)
		p.w.check(err)
		for _, f := range refills {
			l := p.lines[f.Key]
			l.Count, l.From = l.Count+f.Rows, f.From
			p.w.refills += f.Rows
			p.drop(l)
		}
	}
}

func (p *heldWorker) drop(l *engine.Line) {
	if l.Count == 0 && l.From == 0 {
		delete(p.lines, l.Key)
	}
}

// claimDue claims and handles deliveries: of each key up to the first that fails.
func (p *heldWorker) claimDue() {
	var lines []engine.Line
	for _, key := range p.w.keys {
		if l := p.lines[key]; l != nil && l.Count > 0 {
			lines = append(lines, *l)
		}
	}
	if len(lines) == 0 {
		return
	}
	p.w.check(p.settle())
	due, _, err := p.m.ClaimDue(p.w.t.Context(), lines, 2*holdAbove, engine.Suspects{Together: 1000, Limit: 1000, Alone: true}, nil)
	p.w.check(err)
	stuck := map[string]bool{}
	for i := range due {
		d := &due[i]
		l := p.lines[d.Event.Key]
		if d.Gone {
			p.w.t.Errorf("event %d was deleted, and its delivery has no copy", d.Event.ID)
		}
		switch {
		case stuck[l.Key] && d.Running:
			p.owed.Failed = append(p.owed.Failed, engine.Unfinished{Event: d.Event, Attempt: d.Attempt - 1})
		case stuck[l.Key]:
		case p.handle(&d.Event):
			p.owed.Delivered = append(p.owed.Delivered, d.Event.ID)
			l.Count--
			p.drop(l)
		default:
			stuck[l.Key] = true
			p.owed.Failed = append(p.owed.Failed, engine.Unfinished{Event: d.Event, Attempt: max(1, d.Attempt)})
		}
	}
	// Before the next claim; but it may die before that.
	if p.w.dice.IntN(20) == 0 {
		p.w.die(slices.Index(p.w.crew[:], p))
		return
	}
	p.w.check(p.settle())
}

// rebalance releases lanes beyond a share, or claims some up to it.
func (p *heldWorker) rebalance(share int) {
	owned := len(p.m.Lanes())
	if owned == share {
		return
	}
	if p.ahead != nil {
		p.m.PutBack(p.ahead)
		p.ahead = nil
	}
	p.w.check(p.settle())
	if owned > share {
		released, err := p.m.Release(p.w.t.Context(), owned-share)
		p.w.check(err)
		for key, l := range p.lines {
			if slices.Contains(released, l.Lane) {
				delete(p.lines, key)
			}
		}
		return
	}
	claimed, err := p.m.Claim(p.w.t.Context(), share)
	p.w.check(err)
	if len(claimed) == 0 {
		return
	}
	lines, err := p.m.Lines(p.w.t.Context(), claimed, -1)
	p.w.check(err)
	for _, l := range lines {
		p.lines[l.Key] = &l
	}
}
