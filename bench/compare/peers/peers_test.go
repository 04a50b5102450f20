package peers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/bench/compare/peers"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// TestDelivers publishes in every way that scenarios do, and checks that each system delivers each event once to each
// subscription: what is counted is what there was.
func TestDelivers(t *testing.T) {
	t.Parallel()
	for _, s := range peers.All() {
		t.Run(s.Info().Name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.NewEmpty(t)
			if err := s.Setup(t.Context(), db.Pool); err != nil {
				t.Fatal(err)
			}
			subscriptions := []string{systems.DefaultSubscription}
			if s.Info().Fanout {
				subscriptions = append(subscriptions, "another")
			}
			tally := newTally()
			publish(t, db, s, 0, 1, nil)
			publish(t, db, s, 1, 1001, nil) // a large transaction: in bulk
			publish(t, db, s, 5000, 5010, context.Canceled)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx, db.Pool, subscriptions, tally.handle) }()
			tally.await(t, 1001*len(subscriptions))
			for n := range 20 {
				publish(t, db, s, 1001+n, 1002+n, nil)
			}
			want := 1021 * len(subscriptions)
			tally.await(t, want)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			for n, times := range tally.times {
				if times != len(subscriptions) || n >= 1021 {
					t.Errorf("event %d was handled %d times", n, times)
				}
			}
		})
	}
}

// publish commits events in one transaction, or rolls it back with an error.
func publish(t *testing.T, db *pgtest.DB, s systems.System, from, to int, rollback error) {
	t.Helper()
	var events []systems.Event
	for n := from; n < to; n++ {
		events = append(events, systems.Event{Key: fmt.Sprint("key-", n%10), Payload: json.RawMessage(fmt.Sprintf(`{"n":%d,"name":"a name"}`, n))})
	}
	err := pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
		if err := s.Publish(t.Context(), tx, events); err != nil {
			t.Fatal(err)
		}
		return rollback
	})
	if !errors.Is(err, rollback) {
		t.Fatal(err)
	}
}

// tally counts how often each event was handled.
type tally struct {
	mu    sync.Mutex
	times map[int]int
	sum   int
	added chan struct{}
}

func newTally() *tally { return &tally{times: map[int]int{}, added: make(chan struct{}, 1)} }

func (l *tally) handle(_ context.Context, payload []byte) error {
	var e struct{ N int }
	if err := json.Unmarshal(payload, &e); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times[e.N]++
	l.sum++
	select {
	case l.added <- struct{}{}:
	default:
	}
	return nil
}

func (l *tally) await(t *testing.T, n int) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		l.mu.Lock()
		sum := l.sum
		l.mu.Unlock()
		if sum >= n {
			return
		}
		select {
		case <-l.added:
		case <-deadline:
			t.Fatalf("%d events were handled of %d", sum, n)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	chosen, err := peers.Choose([]string{"river", "queue"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range chosen {
		names = append(names, s.Info().Name)
	}
	if got := fmt.Sprint(names); got != "[signalbox river river-best queue]" {
		t.Errorf("chose %s", got)
	}
	if _, err := peers.Choose([]string{"rabbit"}); err == nil {
		t.Error("chose what there is not")
	}
	for _, s := range peers.All() {
		if found, err := systems.Find(peers.All(), s.Info().Name); err != nil || found.Info().Settings != s.Info().Settings {
			t.Errorf("found %v, %v for %s", found, err, s.Info().Name)
		}
	}
}
