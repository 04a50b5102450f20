package worker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestHeadThatIsNotTried has lines whose head is not tried again: it has had more attempts than its worker grants by now, or is of a topic that its worker does not
// know any more. The one behind it is handled once at a time, and not at all where it has to wait for the head.
func TestHeadThatIsNotTried(t *testing.T) {
	t.Parallel()
	const keys = 3
	for _, test := range []struct {
		form, name string
		waits      bool // whether what is behind the head has to
		topics     []string
		change     func(s *worker.Subscription)
	}{
		{"each", "exhausted", false, []string{"a", "b"}, func(s *worker.Subscription) { s.Retry.MaxAttempts = 2 }},
		{"async", "exhausted", false, []string{"a", "b"}, func(s *worker.Subscription) { s.Retry.MaxAttempts = 2 }},
		{"each", "stops its key", true, []string{"a", "b"}, func(s *worker.Subscription) { s.Retry.MaxAttempts, s.StopKeyOnDead = 2, true }},
		{"async", "stops its key", true, []string{"a", "b"}, func(s *worker.Subscription) { s.Retry.MaxAttempts, s.StopKeyOnDead = 2, true }},
		{"batch", "stops its key", true, []string{"a", "b"}, func(s *worker.Subscription) { s.Retry.MaxAttempts, s.StopKeyOnDead = 2, true }},
		{"tx", "stops its key", true, []string{"a", "b"}, func(s *worker.Subscription) { s.Retry.MaxAttempts, s.StopKeyOnDead = 2, true }},
		{"each", "of another topic", true, []string{"a"}, func(s *worker.Subscription) { s.Topics = []string{"a"} }},
		{"batch", "of another topic", true, []string{"a"}, func(s *worker.Subscription) { s.Topics = []string{"a"} }},
	} {
		t.Run(test.form+" "+test.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			publishTo := func(topic, key string, n int) {
				t.Helper()
				e, err := outbox.NewEvent(topic, key, payload{n})
				if err == nil {
					_, err = outbox.Publish(t.Context(), db.Pool, e)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			s := worker.Subscription{
				Name: "s", Topics: []string{"a", "b"}, BreakerAfter: worker.Unlimited, ParkAfter: time.Minute,
				Retry: worker.Retry{Delay: func(int) time.Duration { return 5 * time.Millisecond }},
			}
			for k := range keys {
				for n, topic := range []string{"b", "a", "a"} {
					publishTo(topic, fmt.Sprint("key-", k), n)
				}
			}
			f := formNamed(test.form)
			stop := startForm(t, db, f, s, func(context.Context, execer, *worker.Event[payload]) error { return errors.New("no") })
			eventually(t, 30*time.Second, "the heads have had some attempts", func() bool {
				tried := 0
				for _, r := range rows(t, db) {
					if r.Attempt >= 3 {
						tried++
					}
				}
				return tried >= keys
			})
			stop()
			if len(test.topics) == 1 {
				setTopics(t, db, admin.TopicsOptions{}, test.topics...)
			}
			test.change(&s)
			var mu sync.Mutex
			running, begun, others := map[string]int{}, 0, 0
			goOn := make(chan struct{})
			once := sync.OnceFunc(func() { close(goOn) })
			t.Cleanup(once)
			startForm(t, db, f, s, func(_ context.Context, _ execer, e *worker.Event[payload]) error {
				mu.Lock()
				if e.Key == "other" {
					others++
					mu.Unlock()
					return nil
				}
				begun++
				running[e.Key]++
				if n := running[e.Key]; n > 1 || test.waits {
					t.Errorf("%s, event %d: attempt %d begins, and %d run", e.Key, e.Payload.N, e.Attempt, n)
				}
				mu.Unlock()
				if !test.waits {
					<-goOn
				}
				mu.Lock()
				defer mu.Unlock()
				running[e.Key]--
				return nil
			})
			if !test.waits {
				eventually(t, 30*time.Second, "one behind a head runs", func() bool {
					mu.Lock()
					defer mu.Unlock()
					return begun > 0
				})
			}
			for n := range 5 {
				publishTo("a", "other", n)
				eventually(t, 30*time.Second, "another one is handled", func() bool {
					mu.Lock()
					defer mu.Unlock()
					return others == n+1
				})
			}
			once()
			eventually(t, 30*time.Second, "all is over that may be", func() bool {
				list := rows(t, db)
				dead := 0
				for _, r := range list {
					if r.State == "dead" {
						dead++
					}
				}
				switch {
				case len(test.topics) == 1:
					return len(list) == 3*keys
				case test.waits:
					return dead == keys && len(list) == 3*keys
				}
				return dead == keys && len(list) == keys
			})
		})
	}
}

// TestBehindOneThatIsNotTried has one of a topic that no worker knows in the middle of a line: what is before it is handled, and what is behind it waits.
func TestBehindOneThatIsNotTried(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			s := worker.Subscription{Name: "s", Topics: []string{"a", "b"}, BreakerAfter: worker.Unlimited}
			startForm(t, db, f, s, func(context.Context, execer, *worker.Event[payload]) error { return nil })()
			for n, topic := range []string{"a", "b", "a"} {
				e, err := outbox.NewEvent(topic, "k", payload{n})
				if err == nil {
					_, err = outbox.Publish(t.Context(), db.Pool, e)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			stop := startForm(t, db, f, s, func(context.Context, execer, *worker.Event[payload]) error { return worker.Snooze(time.Hour) })
			eventually(t, 30*time.Second, "all wait", func() bool { return len(rows(t, db)) == 3 })
			stop()
			setTopics(t, db, admin.TopicsOptions{}, "a")
			if _, err := db.Pool.Exec(t.Context(), `update outbox.deliveries set due_at = now()`); err != nil {
				t.Fatal(err)
			}
			s.Topics = []string{"a"}
			var mu sync.Mutex
			var came []int
			startForm(t, db, f, s, func(_ context.Context, _ execer, e *worker.Event[payload]) error {
				mu.Lock()
				defer mu.Unlock()
				came = append(came, e.Payload.N)
				return nil
			})
			eventually(t, 30*time.Second, "the second waits for another worker", func() bool {
				return number(t, db, `select count(*) from outbox.deliveries where errors <> '[]'`) == 1
			})
			mu.Lock()
			defer mu.Unlock()
			if len(came) != 1 || came[0] != 0 {
				t.Errorf("handled were %v", came)
			}
		})
	}
}
