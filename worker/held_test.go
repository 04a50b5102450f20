package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
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
		if err := db.Pool.QueryRow(t.Context(), `select (select count(*) from outbox.deliveries), (select count(*) from outbox.held_keys)`).Scan(&lines, &held); err != nil {
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
	if holds == 0 || most > 1200 {
		t.Errorf("%d holds and up to %d deliveries, want one, and a line with an end", holds, most)
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
