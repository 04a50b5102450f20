package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestEvictedSettlesNothing lets a worker read, evicts it, and lets it go on.
func TestEvictedSettlesNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, ">")
	zombie, id := enginetest.Member(t, db, s)
	enginetest.Publish(t, db.Pool, "k")
	enginetest.Settle(t, zombie, 1)
	enginetest.Publish(t, db.Pool, "k")
	w, err := zombie.Read(ctx, 10)
	if err != nil || len(w.Events) != 1 {
		t.Fatal(w, err)
	}
	if gone, err := engine.Evict(ctx, db.Conn(t), id, "test"); err != nil || !gone {
		t.Fatalf("evicted: %v, %v", gone, err)
	}
	heir, _ := enginetest.Member(t, db, s)
	settlement := engine.Settlement{Window: w, Unfinished: []engine.Unfinished{{Event: w.Events[0], Attempt: 1}}}
	if err := zombie.Settle(ctx, settlement); !errors.Is(err, engine.ErrEvicted) {
		t.Errorf("settle: got %v, want ErrEvicted", err)
	}
	enginetest.Settle(t, heir, 1) // from the zombie's last progress on: its first settle counts, its second does not
	var rows int
	if err := db.Pool.QueryRow(ctx, `select count(*) from outbox.deliveries`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d deliveries, %v: the zombie left some", rows, err)
	}
}

// TestEvictionWaitsForSettle begins an eviction while a settle is between its fence and its commit: the settle counts.
func TestEvictionWaitsForSettle(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, ">")
	m, id := enginetest.Member(t, db, s)
	enginetest.Publish(t, db.Pool, "")
	enginetest.Settle(t, m, 1)

	settling := db.Conn(t)
	tx, err := settling.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, `select outbox.fence($1, $2)`, id, []int32{s.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, `
		insert into outbox.progress (subscription_id, owner, lanes, after_ids, pending, late, late_after_id)
		select subscription_id, owner, lanes, array_fill(1000000::bigint, array[64]), pending, late, late_after_id
		from outbox.progress where owner = $1 order by seq desc limit 1`, id); err != nil {
		t.Fatal(err)
	}
	evicting := db.Conn(t)
	evicted := make(chan error, 1)
	go func() {
		_, err := engine.Evict(context.Background(), evicting, id, "test")
		evicted <- err
	}()
	for waiting := false; !waiting; { // until the eviction waits for the settle's lock
		err := db.Pool.QueryRow(ctx, `select exists (select from pg_locks where pid = $1 and not granted)`, evicting.PgConn().PID()).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-evicted; err != nil {
		t.Fatal(err)
	}
	var least int64
	if err := db.Pool.QueryRow(ctx, `select min(after_id) from outbox.lanes where owner is null`).Scan(&least); err != nil || least != 1000000 {
		t.Errorf("the lanes are at %d, %v: the last settle was not folded", least, err)
	}
}

// TestEvictionWaitsForNoOperator evicts a worker of whose deliveries an operator has locked one: all else is free at once, and that one later.
func TestEvictionWaitsForNoOperator(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, ">")
	m, id := enginetest.Member(t, db, s)
	enginetest.Publish(t, db.Pool, "locked")
	enginetest.Publish(t, db.Pool, "free")
	w, err := m.Read(ctx, 100*engine.Lanes)
	if err != nil || len(w.Events) != 2 {
		t.Fatal(w, err)
	}
	settlement := engine.Settlement{Window: w}
	for _, e := range w.Events {
		settlement.Unfinished = append(settlement.Unfinished, engine.Unfinished{Event: e, State: outbox.Running, Attempt: 1})
	}
	if err := m.Settle(ctx, settlement); err != nil {
		t.Fatal(err)
	}
	operator, err := db.Conn(t).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operator.Exec(ctx, `select from outbox.deliveries d where d.key = 'locked' for update`); err != nil {
		t.Fatal(err)
	}
	sentinel := db.Conn(t)
	check := func(when, want string) {
		t.Helper()
		var got string
		err := db.Pool.QueryRow(ctx, `
			select concat_ws('; ', (select string_agg(concat_ws(' ', d.key, d.state, d.suspect, jsonb_array_length(d.errors)), ', ' order by d.key) from outbox.deliveries d),
			                 (select count(*) from outbox.lanes l where l.owner is not null) || ' lanes owned',
			                 (select count(*) from outbox.workers w) || ' workers')`).Scan(&got)
		if err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", when, got, err, want)
		}
	}
	for _, first := range []bool{true, false} {
		if gone, err := engine.Evict(ctx, sentinel, id, "test"); err != nil || gone != first {
			t.Fatalf("evicted for the first time, %t: %t, %v", first, gone, err)
		}
		check("while it is locked", "free retrying t 1, locked running f 0; 0 lanes owned; 1 workers")
		if pulse, err := engine.Beat(ctx, sentinel, id, false); err != nil || pulse.Alive {
			t.Errorf("the evicted worker is alive: %t, %v", pulse.Alive, err)
		}
		if _, expired, err := engine.FindDead(ctx, sentinel); err != nil || !slices.Contains(expired, id) {
			t.Errorf("%v are dead, %v: without the one that has something left", expired, err)
		}
		if err := m.Settle(ctx, engine.Settlement{Delivered: []int64{w.Events[0].ID}}); !errors.Is(err, engine.ErrEvicted) {
			t.Errorf("it settles: %v", err)
		}
	}
	if err := operator.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if gone, err := engine.Evict(ctx, sentinel, id, "test"); err != nil || gone {
		t.Errorf("evicted once more: %t, %v", gone, err)
	}
	check("in the end", "free retrying t 1, locked retrying t 1; 0 lanes owned; 0 workers")
}

// TestLineOfAKey checks the order in which deliveries may run: the head of a key's line first, and what is behind one that
// is not due waits, whatever its own time.
func TestLineOfAKey(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, ">")
	m, _ := enginetest.Member(t, db, s)
	for range 3 {
		enginetest.Publish(t, db.Pool, "k")
	}
	enginetest.Publish(t, db.Pool, "")
	w, err := m.Read(ctx, 100*engine.Lanes)
	if err != nil || len(w.Events) != 4 {
		t.Fatal(w, err)
	}
	failure := &engine.Failure{Attempt: 1, At: time.Now(), Worker: "w", Error: "no"}
	var unfinished []engine.Unfinished
	lines := map[string]engine.Line{}
	for i, e := range w.Events {
		u := engine.Unfinished{Event: e}
		if i == 0 { // the head failed, and is not due for an hour
			u.Attempt, u.Delay, u.Failure = 1, time.Hour, failure
		}
		unfinished = append(unfinished, u)
		lines[e.Key] = engine.Line{Lane: e.Lane, Key: e.Key, Topic: e.Topic}
	}
	if err := m.Settle(ctx, engine.Settlement{Window: w, Unfinished: unfinished}); err != nil {
		t.Fatal(err)
	}
	asked := []engine.Line{lines["k"], lines[""]}
	due, waiting, err := m.ClaimDue(ctx, asked, 10, engine.Suspects{Alone: true}, nil)
	if err != nil || len(due) != 1 || due[0].Event.Key != "" {
		t.Fatalf("claimed %v, %v; want the one without a key", due, err)
	}
	if !slices.ContainsFunc(waiting, func(l engine.Line) bool { return l.Key == "k" && l.Due > 59*time.Minute }) {
		t.Errorf("waiting for %v, want k in an hour", waiting)
	}
	if err := m.Settle(ctx, engine.Settlement{Delivered: []int64{due[0].Event.ID}}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Pool.Exec(ctx, `update outbox.deliveries set due_at = now() where key = 'k'`); err != nil {
		t.Fatal(err)
	}
	due, _, err = m.ClaimDue(ctx, asked, 10, engine.Suspects{Alone: true}, nil)
	if err != nil || len(due) != 3 {
		t.Fatalf("claimed %v, %v; want the whole line", due, err)
	}
	for i, d := range due {
		if d.Event.ID != w.Events[i].ID {
			t.Errorf("delivery %d is event %d, want %d", i, d.Event.ID, w.Events[i].ID)
		}
		if want := []int{2, 0, 0}[i]; d.Attempt != want || d.Running != (want > 0) {
			t.Errorf("delivery %d has %d attempts (written down: %v), want %d", i, d.Attempt, d.Running, want)
		}
	}
	if again, _, err := m.ClaimDue(ctx, asked, 10, engine.Suspects{Alone: true}, nil); err != nil || len(again) != 0 {
		t.Errorf("claimed again: %v, %v", again, err)
	}
	err = m.Settle(ctx, engine.Settlement{Delivered: []int64{due[0].Event.ID}, Failed: []engine.Unfinished{
		{Event: due[1].Event, Attempt: 1, Failure: failure}, {Event: due[2].Event},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var attempts, failures []int
	err = db.Pool.QueryRow(ctx, `
		select array_agg(attempt order by event_id), array_agg(jsonb_array_length(errors) order by event_id)
		from outbox.deliveries where key = 'k' and state = 'retrying' and owner is null`).Scan(&attempts, &failures)
	if err != nil || len(attempts) != 2 || attempts[0] != 1 || attempts[1] != 0 || failures[0] != 1 || failures[1] != 0 {
		t.Errorf("attempts %v, failures %v, %v", attempts, failures, err)
	}
}

// TestFirstAttemptsOfTheDead evicts a worker that has claimed deliveries for their first attempt, which their rows do not say:
// they are suspects all the same, and each comes alone.
func TestFirstAttemptsOfTheDead(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s, err := engine.Subscribe(ctx, db.Pool, "s", []string{">"}, outbox.FromBeginning)
	if err != nil {
		t.Fatal(err)
	}
	m, id := enginetest.Member(t, db, s)
	for range 3 {
		enginetest.Publish(t, db.Pool, "k")
	}
	enginetest.Publish(t, db.Pool, "idle")
	w, err := m.Read(ctx, 100*engine.Lanes)
	if err != nil {
		t.Fatal(err)
	}
	var unfinished []engine.Unfinished
	lines := map[string]engine.Line{}
	for _, e := range w.Events {
		unfinished = append(unfinished, engine.Unfinished{Event: e})
		lines[e.Key] = engine.Line{Lane: e.Lane, Key: e.Key}
	}
	if err := m.Settle(ctx, engine.Settlement{Window: w, Unfinished: unfinished}); err != nil {
		t.Fatal(err)
	}
	if due, _, err := m.ClaimDue(ctx, []engine.Line{lines["k"]}, 2, engine.Suspects{Alone: true}, nil); err != nil || len(due) != 2 {
		t.Fatalf("claimed %v, %v; want two", due, err)
	}
	if gone, err := engine.Evict(ctx, db.Conn(t), id, "test"); err != nil || !gone {
		t.Fatal(gone, err)
	}
	next, _ := enginetest.Member(t, db, s)
	due, _, err := next.ClaimDue(ctx, []engine.Line{lines["k"], lines["idle"]}, 10, engine.Suspects{Alone: true}, nil)
	if err != nil || len(due) != 2 {
		t.Fatalf("claimed %v, %v; want the head, alone of its key, and the idle one", due, err)
	}
	if head := due[0]; !head.Suspect || !head.Running || head.Attempt != 1 {
		t.Errorf("the head is %+v, want a suspect whose first attempt is written down", head)
	}
	if idle := due[1]; idle.Suspect || idle.Running {
		t.Errorf("%+v was not tried, and is no suspect", idle)
	}
}

// TestFullLane holds a lane while others move on: nothing of it is passed, and it comes once the lane is free again.
func TestFullLane(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, ">")
	m, _ := enginetest.Member(t, db, s)
	enginetest.Publish(t, db.Pool, "held")
	held := enginetest.Settle(t, m, 1)[0].Lane
	m.Full[held] = true
	enginetest.Publish(t, db.Pool, "held")
	for range engine.Lanes {
		enginetest.Publish(t, db.Pool, "") // one for each lane
	}
	enginetest.Settle(t, m, engine.Lanes-1)
	if w, err := m.Read(ctx, 100); err != nil || w.More() {
		t.Errorf("a full lane keeps its reader busy (%v)", err)
	}
	delete(m.Full, held)
	for _, e := range enginetest.Settle(t, m, 2) {
		if e.Lane != held {
			t.Errorf("event %d is of lane %d", e.ID, e.Lane)
		}
	}
}

// TestFailedAt claims deliveries that have failed before: each tells when it first did, or first since somebody had it tried again.
func TestFailedAt(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	m, _ := enginetest.Member(t, db, enginetest.Subscribe(t, db, ">"))
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	for i, c := range []struct {
		errors  string
		decided *time.Time
		want    time.Time
	}{
		{`[]`, nil, time.Time{}},
		{`[{"at": "2026-01-01T00:00:00Z"}, {"at": "2026-01-05T00:00:00+00:00"}]`, nil, day(1)},
		{`[{"at": "2026-01-01T00:00:00Z"}]`, new(day(3)), time.Time{}},
		{`[{"at": "2026-01-01T00:00:00Z"}, {"at": "2026-01-05T00:00:00Z"}]`, new(day(3)), day(5)},
		{`[{"at": "some day"}]`, nil, time.Time{}},
	} {
		for _, attempt := range []int{0, 2} { // those are claimed in other ways
			key := fmt.Sprint(i, "-", attempt)
			enginetest.Publish(t, db.Pool, key)
			if _, err := db.Pool.Exec(ctx, `
				insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at, attempt, errors, decided_at)
				select 1, id, lane, topic, key, payload, headers, published_at, 'retrying', now(), $2, $3, $4 from outbox.events where key = $1`, key, attempt, c.errors, c.decided); err != nil {
				t.Fatal(err)
			}
			lines, err := m.Lines(ctx, slices.Collect(allLanes), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			due, _, err := m.ClaimDue(ctx, lines, 64, engine.Suspects{Alone: true}, nil)
			if err != nil || len(due) != 1 || !due[0].FailedAt.Equal(c.want) {
				t.Fatalf("%s, decided at %v: claimed %d, %v; failed at %v, want %v", c.errors, c.decided, len(due), err, due[0].FailedAt, c.want)
			}
			if err := m.Settle(ctx, engine.Settlement{Delivered: []int64{due[0].Event.ID}}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
