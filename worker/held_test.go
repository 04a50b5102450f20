package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestHotKey publishes a burst of one key that takes its handler several seconds, and events of other keys meanwhile: those do not
// wait for it, its line stays short, and all of it is handled in order.
func TestHotKey(t *testing.T) {
	t.Parallel()
	const hot, others = 1500, 100
	db := pgtest.New(t)
	var (
		mu    sync.Mutex
		order []int
		late  []time.Duration
		seen  int
	)
	s := worker.Subscription{Name: "s", Topics: everything}
	start(t, db.Pool, worker.Config{}, s, func(_ context.Context, e *worker.Event[payload]) error {
		if e.Key == "hot" {
			mu.Lock()
			ahead := len(order)*others > seen*hot
			mu.Unlock()
			pause := 2 * time.Millisecond // what the handler does
			if ahead {
				pause *= 10 // of the others, on a machine that takes long to publish them: it shows nothing once it is through
			}
			time.Sleep(pause)
			mu.Lock()
			defer mu.Unlock()
			order = append(order, e.Payload.N)
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		seen++
		late = append(late, time.Since(e.PublishedAt))
		return nil
	})
	events := make([]outbox.Event, hot)
	for n := range events {
		events[n] = outbox.Event{Topic: "a", Key: "hot", Payload: json.RawMessage(fmt.Sprintf(`{"n": %d}`, n))}
	}
	if _, err := outbox.Publish(t.Context(), db.Pool, events...); err != nil {
		t.Fatal(err)
	}
	most, holds := 0, 0
	for n := range others {
		if _, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: "a", Key: fmt.Sprint("other-", n), Payload: json.RawMessage(fmt.Sprintf(`{"n": %d}`, n))}); err != nil {
			t.Fatal(err)
		}
		var lines, held int
		if err := db.Pool.QueryRow(t.Context(), `select (select count(*) from outbox.deliveries d where d.key = 'hot'), (select count(*) from outbox.held_keys)`).Scan(&lines, &held); err != nil {
			t.Fatal(err)
		}
		most, holds = max(most, lines), max(holds, held)
		time.Sleep(15 * time.Millisecond) // a steady rate
	}
	eventually(t, 10*time.Second, "the others are handled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return seen >= others
	})
	mu.Lock()
	if done := len(order); done == hot {
		t.Error("the hot key was through before the others: this shows nothing")
	}
	slices.Sort(late)
	t.Logf("others: median %v, longest %v; at most %d deliveries", late[len(late)/2], late[len(late)-1], most)
	mu.Unlock()
	if holds != 1 || most > 200 {
		t.Errorf("up to %d holds and %d deliveries, want one, and a line of no more than 200", holds, most)
	}
	eventually(t, 30*time.Second, "the hot key is through", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(order) >= hot && len(rows(t, db)) == 0
	})
	if !slices.IsSorted(order) || len(order) != hot {
		t.Errorf("%d events of the hot key were handled, in order: %v", len(order), slices.IsSorted(order))
	}
	var held int
	if err := db.Pool.QueryRow(t.Context(), `select count(*) from outbox.held_keys`).Scan(&held); err != nil || held != 0 {
		t.Error(held, err)
	}
}

// TestFailingHead has the first event of a key fail until what its handler needs is back, or until it is dead: of those behind it, no more than two
// hundred become deliveries, other keys of its lane and of others go on, and in the end everything is handled in order or, with StopKeyOnDead, waits.
func TestFailingHead(t *testing.T) {
	t.Parallel()
	for name, stops := range map[string]bool{"until it is back": false, "StopKeyOnDead": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := pgtest.New(t)
			l, back := newLedger(), make(chan struct{})
			neighbour := sharesLane(t, db, "k")
			s := worker.Subscription{
				Name: "s", Topics: everything, StopKeyOnDead: stops,
				Retry: worker.Retry{InitialInterval: 10 * time.Millisecond, MaxInterval: 10 * time.Millisecond, MaxAttempts: 1_000_000},
			}
			const n, others = 3000, 20
			publish(t, db.Pool, "k", 0, n) // before the worker reads: of what commits late, each becomes a delivery
			start(t, db.Pool, worker.Config{}, s, func(_ context.Context, e *worker.Event[payload]) error {
				select {
				case <-back:
				default:
					switch {
					case e.Key != "k":
					case stops:
						return worker.DeadLetter(errors.New("out of order"))
					default:
						return errors.New("out of order")
					}
				}
				l.add(e)
				return nil
			})
			most := int64(0)
			for i := range others { // each by a read of its own
				key := "other"
				if i%2 == 0 {
					key = neighbour
				}
				publish(t, db.Pool, key, i, i+1)
				l.waitFor(t, i+1)
				var rows int64
				if err := db.Pool.QueryRow(ctx, `select count(*) from outbox.deliveries`).Scan(&rows); err != nil {
					t.Fatal(err)
				}
				most = max(most, rows)
			}
			if most < 100 || most > 200 {
				t.Errorf("up to %d deliveries, want 100 to 200", most)
			}
			close(back)
			if stops {
				eventually(t, 10*time.Second, "its head is dead", func() bool {
					dead, err := admin.CountDeliveries(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Dead}})
					return err == nil && dead == 1
				})
				if _, err := admin.SkipDeliveries(ctx, db.Pool, admin.DeliveryFilter{Subscription: "s", States: []outbox.State{outbox.Dead}}, "known"); err != nil {
					t.Fatal(err)
				}
			}
			want := n + others
			if stops {
				want--
			}
			var order []int
			for _, e := range l.waitFor(t, want) {
				if e.Key == "k" {
					order = append(order, e.Payload.N)
				}
			}
			if !slices.IsSorted(order) {
				t.Error("the key's events came out of order")
			}
		})
	}
}
