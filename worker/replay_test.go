package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestReplayEvents replays some of what was handled, in chunks, one of them twice: a key's events come in order, dead and
// skipped ones among them, and nothing else does.
func TestReplayEvents(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	first := newLedger()
	s := worker.Subscription{Name: "s", Topics: []string{"test.*"}}
	stop := start(t, db.Pool, worker.Config{}, s, func(_ context.Context, e *worker.Event[payload]) error {
		first.add(e)
		switch e.Payload.N {
		case 30:
			return worker.DeadLetter(errors.New("no"))
		case 31:
			return worker.Skip("no")
		}
		return nil
	})
	for n := range 50 { // ids 1 to 100, in turn
		publish(t, db.Pool, "a", n, n+1)
		publish(t, db.Pool, "b", n, n+1)
	}
	if _, err := db.Pool.Exec(ctx, `insert into outbox.events (topic, key, payload) values ('other', 'a', '{"n": 7}')`); err != nil {
		t.Fatal(err)
	}
	first.waitFor(t, 100)
	eventually(t, 20*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	if err := admin.Pause(ctx, db.Pool, "s"); err != nil { // so that the replayed ones are all there when the first is handled
		t.Fatal(err)
	}
	waitOwned(t, db, "s", 0)
	publish(t, db.Pool, "a", 50, 51)                                         // it has yet to come, and is not replayed
	replay := func(f admin.EventFilter, want int64, rate int) (chunks int) { // a fifth of the rate is a chunk
		t.Helper()
		if n, err := admin.CountReplay(ctx, db.Pool, "s", f); err != nil || n != (admin.Estimate{Events: want}) {
			t.Errorf("%+v: counted %+v, %v; want %d", f, n, err, want)
		}
		var first admin.Replayed
		done, err := admin.Replay(ctx, db.Pool, "s", f, admin.ReplayOptions{Rate: rate, Progress: func(r admin.Replayed) {
			if chunks++; chunks == 1 {
				first = r
			}
		}})
		if err != nil || done.Events != want {
			t.Errorf("%+v: took %d, %v; want %d", f, done.Events, err, want)
		}
		if chunks > 1 { // once more from the second one on: an interrupted caller does not know what became of it
			again, err := admin.Replay(ctx, db.Pool, "s", f, admin.ReplayOptions{After: first.Last})
			if err != nil || again.Events != want-first.Events {
				t.Errorf("%+v: repeated, it took %d, %v; want %d", f, again.Events, err, want-first.Events)
			}
		}
		return chunks
	}
	if chunks := replay(admin.EventFilter{Key: "a", MinID: 21}, 40, 35); chunks != 6 {
		t.Errorf("40 events in chunks of 7 were %d", chunks)
	}
	replay(admin.EventFilter{Payload: json.RawMessage(`{"n": 5}`)}, 2, 500)
	replay(admin.EventFilter{Topic: "other"}, 0, 500)
	replay(admin.EventFilter{Since: time.Now().Add(time.Hour)}, 0, 500)
	stop()

	second := newLedger()
	if err := admin.Resume(ctx, db.Pool, "s"); err != nil {
		t.Fatal(err)
	}
	start(t, db.Pool, worker.Config{}, s, record(second))
	second.waitFor(t, 40+2+1)
	eventually(t, 20*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	byKey := map[string][]int{}
	for _, e := range second.all() {
		byKey[e.Key] = append(byKey[e.Key], e.Payload.N)
	}
	want := map[string][]int{"a": {5}, "b": {5}}
	for n := 10; n <= 50; n++ {
		want["a"] = append(want["a"], n)
	}
	if !cmp.Equal(byKey, want) {
		t.Errorf("replayed %v, want %v", byKey, want)
	}
	left, err := admin.CountDeliveries(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Dead, outbox.Skipped}})
	if err != nil || left != 2 { // those of key b
		t.Errorf("%d dead or skipped ones are left, %v; want 2", left, err)
	}
	for _, c := range []struct {
		name string
		f    admin.EventFilter
		o    admin.ReplayOptions
		want error
	}{
		{"unknown", admin.EventFilter{}, admin.ReplayOptions{}, outbox.ErrUnknownSubscription},
		{"s", admin.EventFilter{Topic: "a..b"}, admin.ReplayOptions{}, admin.ErrInvalidFilter},
		{"s", admin.EventFilter{}, admin.ReplayOptions{Rate: -1}, admin.ErrInvalidFilter},
		{"s", admin.EventFilter{}, admin.ReplayOptions{After: -1}, admin.ErrInvalidFilter},
	} {
		if _, err := admin.Replay(ctx, db.Pool, c.name, c.f, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s, %+v: got %v, want %v", c.name, c.f, err, c.want)
		}
	}
}

// TestReplayUnderWay replays while the worker is at work: it notices at once, and new events of a key wait for the replayed.
func TestReplayUnderWay(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	l := newLedger()
	start(t, db.Pool, worker.Config{}, worker.Subscription{Name: "s", Topics: everything}, record(l))
	publish(t, db.Pool, "k", 0, 2000)
	l.waitFor(t, 2000)
	eventually(t, 20*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	if _, err := admin.Replay(ctx, db.Pool, "s", admin.EventFilter{Key: "k"}, admin.ReplayOptions{Rate: 1500}); err != nil { // in chunks of 300
		t.Fatal(err)
	}
	var again []int
	for _, e := range l.waitFor(t, 4000)[2000:] {
		again = append(again, e.Payload.N)
	}
	if !slices.IsSorted(again) || len(again) != 2000 {
		t.Errorf("%d were replayed, in order: %v", len(again), slices.IsSorted(again))
	}
}

// sharesLane returns another key of the same lane.
func sharesLane(t *testing.T, db *pgtest.DB, key string) (other string) {
	t.Helper()
	err := db.Pool.QueryRow(t.Context(), `
		select 'n' || i from generate_series(1, 10000) i where hashtext('n' || i) & 63 = hashtext($1) & 63 limit 1`, key).Scan(&other)
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// TestReplayHoldsNothing replays more of a key than a lane may have stuck, and its first event takes long: an event of another key
// in the lane does not wait for that.
func TestReplayHoldsNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	neighbour := sharesLane(t, db, "k")
	l, gate, replaying := newLedger(), make(chan struct{}), make(chan struct{})
	s := worker.Subscription{Name: "s", Topics: everything, ParkAfter: 20 * time.Millisecond}
	start(t, db.Pool, worker.Config{}, s, func(_ context.Context, e *worker.Event[payload]) error {
		select {
		case <-replaying:
			if e.Key == "k" {
				<-gate
			}
		default:
		}
		l.add(e)
		return nil
	})
	const n = 3000
	publish(t, db.Pool, "k", 0, n)
	l.waitFor(t, n)
	eventually(t, 20*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	close(replaying)
	if _, err := admin.Replay(ctx, db.Pool, "s", admin.EventFilter{}, admin.ReplayOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the first runs", func() bool {
		running, err := admin.CountDeliveries(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Running}})
		return err == nil && running == 1
	})
	publish(t, db.Pool, neighbour, n, n+1)
	if last := l.waitFor(t, n+1)[n]; last.Key != neighbour {
		t.Errorf("event %d of %s came before that of %s", last.Payload.N, last.Key, neighbour)
	}
	close(gate)
	l.waitFor(t, 2*n+1)
}
