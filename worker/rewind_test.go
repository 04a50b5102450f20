package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// replayed is what TestRewind's handlers did, in order.
type replayed struct {
	mu  sync.Mutex
	all []worker.Event[payload]
}

func (r *replayed) add(e *worker.Event[payload]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, *e)
}

func (r *replayed) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// unreliably returns a handler that remembers its successes. Some events fail, some take long enough to be parked, and, unless mild is
// set, some die and some are skipped.
func (r *replayed) unreliably(mild *atomic.Bool) func(context.Context, *worker.Event[payload]) error {
	return func(_ context.Context, e *worker.Event[payload]) error {
		switch dice := rand.N(100); {
		case dice < 4:
			return errors.New("not this time")
		case dice < 7 && !mild.Load():
			return worker.DeadLetter(errors.New("never"))
		case dice < 10 && !mild.Load():
			return worker.Skip("no")
		case dice < 12:
			time.Sleep(rand.N(60 * time.Millisecond)) // it may be parked
		}
		r.add(e)
		return nil
	}
}

// publishUntil commits transactions of a few events of one key each, until over is closed. Some stay open for a while.
func publishUntil(t *testing.T, conn *pgx.Conn, over <-chan struct{}, key func() string) {
	for {
		select {
		case <-over:
			return
		case <-time.After(5 * time.Millisecond):
		}
		err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			if _, err := outbox.Publish(t.Context(), tx, someEvents(key())...); err != nil {
				return err
			}
			if rand.N(30) == 0 {
				time.Sleep(rand.N(500 * time.Millisecond)) // a slow transaction
			}
			return nil
		})
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// someEvents returns up to three events of a key. One in ten is of a topic that is not wanted, another one has no key.
func someEvents(of string) []outbox.Event {
	var events []outbox.Event
	for range 1 + rand.N(3) {
		topic, key := "wanted", of
		switch rand.N(10) {
		case 0:
			topic = "unwanted"
		case 1:
			key = ""
		}
		events = append(events, outbox.Event{Topic: topic, Key: key, Payload: []byte(`{"n":0}`)})
	}
	return events
}

// TestRewind sends a subscription back again and again, while events fail, die, are skipped and parked, and while transactions
// are open. After each time, everything from there on is handled again, each key in its order.
func TestRewind(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	const keys, rounds = 20, 4
	var (
		handled    replayed
		mild       atomic.Bool // nothing dies or is skipped any more
		publishing sync.WaitGroup
		over       = make(chan struct{})
	)
	for range 2 {
		w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t), PollInterval: 200 * time.Millisecond, Retention: worker.Unlimited})
		if err != nil {
			t.Fatal(err)
		}
		s := worker.Subscription{Name: "s", Topics: []string{"wanted"}, ParkAfter: 30 * time.Millisecond, Retry: worker.Retry{InitialInterval: 20 * time.Millisecond, Multiplier: 1}}
		if err := worker.Handle(w, s, handled.unreliably(&mild)); err != nil {
			t.Fatal(err)
		}
		runUntilStopped(t, w)
	}
	for p := range 4 {
		conn := db.Conn(t)
		// Each key has one publisher, so that its ids are in order.
		publishing.Go(func() { publishUntil(t, conn, over, func() string { return fmt.Sprint("key-", p+4*rand.N(keys/4)) }) })
	}
	var from int64
	begun := 0 // what was handled before the last rewind
	for round := range rounds {
		eventually(t, 30*time.Second, "events are handled", func() bool { return handled.len() > begun+300 })
		if round == rounds-1 {
			mild.Store(true)
		}
		var last int64
		if err := db.Pool.QueryRow(ctx, `select last_value from outbox.events_id_seq`).Scan(&last); err != nil {
			t.Fatal(err)
		}
		begun, from = handled.len(), 1+rand.N(last)
		if _, err := admin.Rewind(ctx, db.Pool, "s", outbox.FromID(from)); err != nil {
			t.Fatal(err)
		}
		if s := subscription(t, db, "s"); s.RewindTo != nil {
			t.Errorf("it is still to go back to %d", *s.RewindTo)
		}
	}
	close(over)
	publishing.Wait()
	eventually(t, 60*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })

	ids := func(sql string, args ...any) []int64 {
		rows, _ := db.Pool.Query(ctx, sql, args...)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	ever := map[int64]bool{}
	for _, e := range handled.all {
		ever[e.ID] = true
	}
	for _, id := range ids(`select d.event_id from outbox.deliveries d where d.state in ('dead', 'skipped')`) {
		ever[id] = true
	}
	for _, id := range ids(`select id from outbox.events where topic = 'wanted'`) {
		if !ever[id] {
			t.Errorf("event %d, before %d, was never handled", id, from)
		}
	}
	want := ids(`select id from outbox.events where topic = 'wanted' and id >= $1`, from)
	again := map[int64]bool{}
	last, descents := map[string]int64{}, map[string]int{}
	for _, e := range handled.all[begun:] {
		again[e.ID] = true
		if e.ID < last[e.Key] && e.Key != "" {
			descents[e.Key]++
		}
		last[e.Key] = e.ID
	}
	for _, id := range want {
		if !again[id] {
			t.Errorf("event %d, from %d on, was not handled again", id, from)
		}
	}
	for key, n := range descents {
		if n > 1 {
			t.Errorf("%s went back %d times: it is out of order", key, n)
		}
	}
	var left int
	err := db.Pool.QueryRow(ctx, `select count(*) from outbox.deliveries where event_id >= $1`, from).Scan(&left)
	if err != nil || left > 0 {
		t.Errorf("%d deliveries are left, %v: whatever became of them before, they were handled again", left, err)
	}
	t.Logf("%d events from %d on were handled again", len(want), from)
}

// TestRewindWaits asks for a rewind while a handler runs, gives up waiting, and sees the sentinel complete it.
func TestRewindWaits(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	l := newLedger()
	entered, finish := make(chan struct{}, 2), make(chan struct{})
	s := worker.Subscription{Name: "s", Topics: everything, ParkAfter: 10 * time.Millisecond}
	start(t, db.Pool, worker.Config{PollInterval: 100 * time.Millisecond}, s, func(_ context.Context, e *worker.Event[payload]) error {
		if e.Payload.N == 4 {
			entered <- struct{}{}
			<-finish
		}
		l.add(e)
		return nil
	})
	publish(t, db.Pool, "", 0, 5)
	l.waitFor(t, 4)
	<-entered
	waitOwned(t, db, "s", engine.Lanes)
	eventually(t, 20*time.Second, "the slow event is parked, and the window settled", func() bool {
		n, err := admin.CountRewind(ctx, db.Pool, "s", outbox.FromID(3))
		if err != nil || n.Estimated || n.Events > 3 {
			t.Fatalf("it would replay %+v, %v, want 3", n, err)
		}
		return n.Events == 3
	})
	patience, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if _, err := admin.Rewind(patience, db.Pool, "s", outbox.FromID(3)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want it to wait for the handler", err)
	}
	if s := subscription(t, db, "s"); s.RewindTo == nil || *s.RewindTo != 2 {
		t.Errorf("the request is lost: %+v", s)
	}
	close(finish)
	l.waitFor(t, 5+3)
	eventually(t, 20*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	if n := len(l.all()); n != 8 {
		t.Errorf("%d events were handled, want 8", n)
	}
}

// TestRewindRefuses checks errors and what is left alone, without a worker.
func TestRewindRefuses(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	publish(t, db.Pool, "k", 0, 10)
	if _, err := admin.Rewind(ctx, db.Pool, "s", outbox.FromBeginning); !errors.Is(err, outbox.ErrUnknownSubscription) {
		t.Errorf("got %v, want ErrUnknownSubscription", err)
	}
	if _, err := engine.Subscribe(ctx, db.Pool, "s", everything, outbox.FromID(6)); err != nil {
		t.Fatal(err)
	}
	for _, to := range []outbox.Position{{}, outbox.FromNow, outbox.FromID(12), outbox.FromID(0), outbox.FromID(-1), outbox.FromTime(time.Time{})} {
		if _, err := admin.Rewind(ctx, db.Pool, "s", to); !errors.Is(err, outbox.ErrInvalidPosition) {
			t.Errorf("%+v: got %v, want ErrInvalidPosition", to, err)
		}
	}
	cursor := func(want int64) {
		t.Helper()
		var low, high int64
		err := db.Pool.QueryRow(ctx, `select min(after_id), max(after_id) from outbox.lanes`).Scan(&low, &high)
		if err != nil || low != want || high != want {
			t.Errorf("the cursors are from %d to %d, %v; want %d", low, high, err, want)
		}
	}
	if n, err := admin.Rewind(ctx, db.Pool, "s", outbox.FromID(9)); err != nil || n.Events != 0 {
		t.Errorf("forward: %+v, %v", n, err)
	}
	cursor(5)
	if n, err := admin.Rewind(ctx, db.Pool, "s", outbox.FromTime(time.Now().Add(-time.Hour))); err != nil || n.Events != 5 {
		t.Errorf("back: %+v, %v; want 5 events", n, err)
	}
	cursor(0)
}
