package engine_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// crew is a worker with a member in each of several subscriptions, which own all lanes and have connections of their own.
func crew(t *testing.T, db *pgtest.DB, names ...string) (int64, []*engine.Member) {
	t.Helper()
	topics := make([][]string, len(names))
	for i := range names {
		topics[i] = []string{">"}
	}
	return crewOf(t, db, names, topics)
}

// crewOf is crew for subscriptions to these topics.
func crewOf(t *testing.T, db *pgtest.DB, names []string, topics [][]string) (int64, []*engine.Member) {
	t.Helper()
	ctx := t.Context()
	var subs []engine.Subscription
	var ids []int32
	for i, name := range names {
		s, err := engine.Subscribe(ctx, db.Pool, name, topics[i], outbox.FromBeginning)
		if err != nil {
			t.Fatal(err)
		}
		subs, ids = append(subs, s), append(ids, s.ID)
	}
	id, err := engine.Join(ctx, db.Conn(t), t.Name(), true, time.Hour, ids)
	if err != nil {
		t.Fatal(err)
	}
	var members []*engine.Member
	for _, s := range subs {
		m := engine.NewMember(db.Conn(t), id, s)
		if _, err := m.Claim(ctx, engine.Lanes); err != nil {
			t.Fatal(err)
		}
		members = append(members, m)
	}
	return id, members
}

// TestSettleTogether records the progress of several members at once: what each has read, and no more, and as if each had done so alone.
func TestSettleTogether(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	id, members := crew(t, db, "c", "a", "b")
	var want [3]int
	published := 0
	publish := func() { enginetest.Publish(t, db.Pool, ""); published++ }
	for round := range 3 {
		publish()
		var list []engine.Progress
		for i, m := range members {
			if i > 2-round {
				continue // it has not handled it
			}
			if i == 1 {
				publish() // so the first one stands elsewhere
			}
			w, err := m.Read(ctx, 100)
			if err != nil {
				t.Fatal(err)
			}
			want[i] += len(w.Events)
			list = append(list, engine.Progress{Member: m, Settlement: engine.Settlement{Window: w, Handled: int64(len(w.Events))}})
		}
		if err := engine.SettleTogether(ctx, list); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := engine.Evict(ctx, db.Conn(t), id, "test"); err != nil {
		t.Fatal(err)
	}
	_, members = crew(t, db, "c", "a", "b")
	for i, m := range members {
		enginetest.Settle(t, m, published-want[i])
	}
}

// TestSettleTogetherFails has one of the members gone, because its subscription was deleted: nothing is recorded for any, and each may try
// alone.
func TestSettleTogetherFails(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	_, members := crew(t, db, "a", "b")
	enginetest.Publish(t, db.Pool, "")
	var list []engine.Progress
	for _, m := range members {
		w, err := m.Read(ctx, 100)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, engine.Progress{Member: m, Settlement: engine.Settlement{Window: w}})
	}
	if err := admin.DeleteSubscription(ctx, db.Pool, "b", true); err != nil {
		t.Fatal(err)
	}
	if err := engine.SettleTogether(ctx, list); !errors.Is(err, engine.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	if err := members[0].Settle(ctx, list[0].Settlement); err != nil {
		t.Error(err)
	}
	if err := members[1].Settle(ctx, list[1].Settlement); !errors.Is(err, engine.ErrEvicted) {
		t.Errorf("got %v, want ErrEvicted", err)
	}
}

// TestLocksInOrder settles for several members at once, and for single ones beside that, while their worker is evicted and a subscription
// of theirs is deleted: no two of these wait for each other.
func TestLocksInOrder(t *testing.T) {
	t.Parallel()
	for range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		db := pgtest.New(t)
		id, members := crew(t, db, "d", "c", "b", "a", "e", "f")
		evictor := db.Conn(t)
		for n := range 50 {
			enginetest.Publish(t, db.Pool, string(rune('a'+n%7)))
		}
		var running sync.WaitGroup
		ended := func(err error) bool {
			var pgErr *pgconn.PgError
			deadlock := errors.As(err, &pgErr) && pgErr.Code == pgerrcode.DeadlockDetected
			if err != nil && (deadlock || !errors.Is(err, engine.ErrEvicted) && !errors.Is(err, engine.ErrBusy)) {
				t.Error(err)
			}
			return err != nil
		}
		window := func(m *engine.Member) engine.Settlement {
			w, err := m.Read(ctx, 2)
			if err != nil {
				t.Error(err)
			}
			return engine.Settlement{Window: w}
		}
		running.Go(func() {
			for {
				var list []engine.Progress
				for _, m := range members[:4] {
					list = append(list, engine.Progress{Member: m, Settlement: window(m)})
				}
				if ended(engine.SettleTogether(ctx, list)) {
					return
				}
			}
		})
		for _, m := range members[4:] {
			running.Go(func() { // with a row that refers to the worker
				for {
					s := window(m)
					for i := range s.Window.Events {
						s.Unfinished = append(s.Unfinished, engine.Unfinished{Event: s.Window.Events[i], State: outbox.Running, Attempt: 1})
					}
					if ended(m.Settle(ctx, s)) {
						return
					}
				}
			})
		}
		running.Go(func() { ended(admin.DeleteSubscription(ctx, db.Pool, "b", true)) })
		running.Go(func() {
			for {
				if _, err := engine.Evict(ctx, evictor, id, "test"); !errors.Is(err, engine.ErrBusy) {
					ended(err)
					return
				}
			}
		})
		running.Wait()
		cancel()
	}
}
