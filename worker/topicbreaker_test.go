package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// twoTopics handles events of topic "good" and others. While these are away, attempts at their events fail.
type twoTopics struct {
	t    *testing.T
	db   *pgtest.DB
	away atomic.Bool
	slow map[int]time.Duration // how long events take, by number

	mu    sync.Mutex
	n     int
	order map[string][]int // what was handled, by key and in order
	calls int              // attempts that have failed
	told  []worker.BreakerState
}

func (w *twoTopics) handle(_ context.Context, _ execer, e *worker.Event[payload]) error {
	w.mu.Lock()
	slow := w.slow[e.Payload.N]
	w.mu.Unlock()
	time.Sleep(slow)
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Topic != "good" && w.away.Load() {
		w.calls++
		return errors.New("connection refused")
	}
	w.order[e.Key] = append(w.order[e.Key], e.Payload.N)
	return nil
}

// publish publishes an event of each topic in turns.
func (w *twoTopics) publish(key string, topics ...string) {
	w.t.Helper()
	events := make([]outbox.Event, len(topics))
	for i, topic := range topics {
		w.n++
		events[i] = outbox.Event{Topic: topic, Key: key, Payload: json.RawMessage(fmt.Sprintf(`{"n": %d}`, w.n))}
	}
	if _, err := outbox.Publish(w.t.Context(), w.db.Pool, events...); err != nil {
		w.t.Fatal(err)
	}
}

// handled returns how many different events were handled.
func (w *twoTopics) handled() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, list := range w.order {
		n += len(slices.Compact(slices.Sorted(slices.Values(list))))
	}
	return n
}

func (w *twoTopics) changes() []worker.BreakerState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

func startTwoTopics(t *testing.T, f form, s worker.Subscription) *twoTopics {
	t.Helper()
	two := &twoTopics{t: t, db: pgtest.New(t), order: map[string][]int{}}
	w, err := worker.New(two.db.Pool, worker.Config{Logger: testLogger(t), Hooks: []worker.Hooks{{BreakerChanged: func(_ context.Context, b worker.BreakerState) {
		two.mu.Lock()
		defer two.mu.Unlock()
		two.told = append(two.told, b)
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	s.Name, s.Topics = "s", everything
	if err := f.register(w, s, two.db, two.handle); err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	return two
}

// TestOneTopicIsAway has what handlers call for one of two topics be away, and come back. The other topic goes on, but for keys that wait behind an event of
// the first. No attempt is counted, few are made, and all of it is handled in order in the end.
func TestOneTopicIsAway(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := startTwoTopics(t, f, worker.Subscription{})
			for i := range 20 {
				w.publish(fmt.Sprint("first-", i), "good", "bad")
			}
			eventually(t, 30*time.Second, "both work", func() bool { return w.handled() == 40 })
			w.away.Store(true)
			good := 40
			for i := range 100 {
				w.publish(fmt.Sprint("good-", i), "good")
				w.publish(fmt.Sprint("bad-", i), "bad")
				w.publish("", "bad")
				w.publish("", "good")
				good += 2
			}
			eventually(t, 60*time.Second, "the breaker is open for it", func() bool { return len(w.changes()) > 0 })
			if b := w.changes()[0]; b.Topic != "bad" || !b.Open || b.Cause == nil {
				t.Fatalf("the hook was told %+v", b)
			}
			for i := range 10 {
				w.publish(fmt.Sprint("both-", i), "bad", "good", "bad", "good")
			}
			for i := range 100 {
				w.publish(fmt.Sprint("good-", i), "good")
				w.publish(fmt.Sprint("bad-", i), "bad")
				good++
			}
			eventually(t, 60*time.Second, "those of the other topic are handled", func() bool { return w.handled() == good })
			var list []row
			eventually(t, 30*time.Second, "the rest waits", func() bool { list = rows(t, w.db); return len(list) == 340 })
			if i := slices.IndexFunc(list, func(r row) bool { return r.Attempt > 1 || r.State == "dead" }); i >= 0 { // one is counted while it runs
				t.Errorf("it has %+v", list[i])
			}
			status, err := admin.GetStatus(t.Context(), w.db.Pool)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(status.Concerns, func(c admin.Concern) bool { return c.Kind == admin.ConcernBreaker })
			if s := status.Subscriptions[0]; s.BreakerOpenedAt == nil || !slices.Equal(s.BreakerTopics, []string{"bad"}) || i < 0 || !slices.Equal(status.Concerns[i].Topics, s.BreakerTopics) {
				t.Errorf("the status has %+v, %+v", s, status.Concerns)
			}
			w.mu.Lock()
			calls := w.calls
			w.mu.Unlock()
			if calls > 300 {
				t.Errorf("%d attempts were made in vain", calls)
			}
			w.away.Store(false)
			if err := admin.Probe(t.Context(), w.db.Pool, "s"); err != nil {
				t.Fatal(err)
			}
			eventually(t, 60*time.Second, "all are handled", func() bool { return w.handled() == w.n && settledAll(t, w.db.Pool) })
			eventually(t, 30*time.Second, "it is closed", func() bool {
				w.publish("", "bad") // it takes some to double what is tried
				list := w.changes()
				return len(list) == 2 && list[1].Topic == "bad" && !list[1].Open
			})
			w.mu.Lock()
			defer w.mu.Unlock()
			for key, list := range w.order {
				if key != "" && !slices.IsSorted(list) {
					t.Errorf("%q was handled in the order %v", key, list)
				}
			}
		})
	}
}

// TestHoldAboveItsWindow has keys of whose events, in one window, one in the middle waits for its topic, with all behind it, before the handlers run; and then
// the first is slow, so that those between wait as well. They are too many for deliveries; but the key is not held from one of them
// on, below those that have a row: each is handled once, and in order.
func TestHoldAboveItsWindow(t *testing.T) {
	t.Parallel()
	const first, keys, before, behind = 40, 10, 70, 50
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			slow := map[int]time.Duration{}
			w := startTwoTopics(t, f, worker.Subscription{ParkAfter: 20 * time.Millisecond})
			for i := range first / 2 {
				w.publish(fmt.Sprint("first-", i), "good", "bad")
			}
			eventually(t, 30*time.Second, "both work", func() bool { return w.handled() == first })
			w.away.Store(true)
			eventually(t, 60*time.Second, "the breaker is open for it", func() bool {
				w.publish("", "bad")
				return len(w.changes()) > 0
			})
			var events []outbox.Event
			for k := range keys {
				for i := range before + 1 + behind {
					w.n++
					e := outbox.Event{Topic: "good", Key: fmt.Sprint("key-", k), Payload: json.RawMessage(fmt.Sprintf(`{"n": %d}`, w.n))}
					switch i {
					case 0:
						slow[w.n] = 300 * time.Millisecond
					case before:
						e.Topic = "bad"
					}
					events = append(events, e)
				}
			}
			w.mu.Lock()
			w.slow = slow
			w.mu.Unlock()
			if _, err := outbox.Publish(t.Context(), w.db.Pool, events...); err != nil {
				t.Fatal(err)
			}
			eventually(t, 60*time.Second, "what is before one of the other topic is handled", func() bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				for k := range keys {
					if len(w.order[fmt.Sprint("key-", k)]) < before {
						return false
					}
				}
				return true
			})
			w.away.Store(false)
			if err := admin.Probe(t.Context(), w.db.Pool, "s"); err != nil {
				t.Fatal(err)
			}
			eventually(t, 60*time.Second, "all are handled", func() bool { return w.handled() == w.n && settledAll(t, w.db.Pool) })
			w.mu.Lock()
			defer w.mu.Unlock()
			for k := range keys {
				list := w.order[fmt.Sprint("key-", k)]
				if strings.HasSuffix(f.name, "tx") { // of what comes twice, the first was undone
					list = lastOfEach(list)
				}
				if !slices.IsSorted(list) || len(list) != before+1+behind {
					t.Errorf("%d events of a key were handled in the order %v", before+1+behind, list)
				}
			}
		})
	}
}

// lastOfEach returns a list with the last of each number.
func lastOfEach(list []int) (last []int) {
	for i, n := range list {
		if !slices.Contains(list[i+1:], n) {
			last = append(last, n)
		}
	}
	return last
}

// TestAllTopicsAreAway has both topics fail: the breaker that opens is the subscription's.
func TestAllTopicsAreAway(t *testing.T) {
	t.Parallel()
	two := startTwoTopics(t, formNamed("each"), worker.Subscription{})
	for i := range 20 {
		two.publish(fmt.Sprint("first-", i), "bad", "worse")
	}
	eventually(t, 30*time.Second, "both work", func() bool { return two.handled() == 40 })
	two.away.Store(true)
	for i := range 100 {
		two.publish(fmt.Sprint("bad-", i), "bad")
		two.publish(fmt.Sprint("worse-", i), "worse")
	}
	eventually(t, 30*time.Second, "the breaker is open", func() bool { return len(two.changes()) > 0 })
	if b := two.changes()[0]; b.Topic != "" || !b.Open {
		t.Errorf("the hook was told %+v", b)
	}
}
