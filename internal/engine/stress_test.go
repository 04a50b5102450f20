package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
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
)

var stressFor = flag.Duration("stress", 6*time.Second, "how long TestStress publishes")

// A mark is the payload of a stress event: who published it, and its number among those that its publisher committed.
type mark struct {
	Publisher int `json:"p"`
	N         int `json:"n"`
}

// TestStress publishes from many connections, in all the ways in which ids, transaction ids and commits can get out
// of step, and reads as fast as it can. Every committed event must arrive exactly once at each subscription, in the order of
// its key, and no other.
//
// It is made to fail within a minute when one of three facts does not hold: xid is the first column, the id sequence
// caches nothing, and a read's pending transactions include [xmax, next).
func TestStress(t *testing.T) {
	t.Parallel()
	const publishers, subscriptions, members = 16, 3, 2
	db := pgtest.New(t)

	var (
		publishing, reading sync.WaitGroup
		committed           [publishers]int // events, numbered from 0
		over                = make(chan struct{})
		deadline            = time.Now().Add(*stressFor)
	)
	for p := range publishers {
		conn := db.Conn(t)
		publishing.Go(func() { committed[p] = publishStress(t, conn, p, deadline) })
	}
	got := make([][][]engine.Event, subscriptions)
	for s := range subscriptions {
		got[s] = make([][]engine.Event, members)
		for m := range members {
			control, conn := db.Conn(t), db.Conn(t)
			reading.Go(func() { got[s][m] = readStress(t, control, conn, fmt.Sprint("subscription-", s), 64, over) })
		}
	}
	publishing.Wait()
	close(over)
	reading.Wait()
	judgeStress(t, committed[:], got)
}

// TestStressTogether is TestStress for members that read together: two workers serve the same subscriptions, and each reads by difference
// for those of its members that stand at the end of the log, and once for those that stand at the same cursors before. Lanes change hands, windows are put back, and some members are left out and
// fall behind.
func TestStressTogether(t *testing.T) {
	t.Parallel()
	const publishers, subscriptions, workers = 5, 3, 2
	db := pgtest.New(t)
	var (
		publishing, reading sync.WaitGroup
		committed           [publishers]int
		over                = make(chan struct{})
		deadline            = time.Now().Add(*stressFor)
	)
	for p := range publishers {
		conn := db.Conn(t)
		publishing.Go(func() { committed[p] = publishStress(t, conn, p, deadline) })
	}
	got := make([][][]engine.Event, subscriptions)
	for s := range subscriptions {
		got[s] = make([][]engine.Event, workers)
	}
	var differences, pages atomic.Int64
	for w := range workers {
		control, conn := db.Conn(t), db.Conn(t)
		reading.Go(func() {
			for s, events := range readTogether(t, control, conn, subscriptions, over, &differences, &pages) {
				got[s][w] = events
			}
		})
	}
	publishing.Wait()
	close(over)
	reading.Wait()
	t.Logf("%d events were read by difference, and %d for another member", differences.Load(), pages.Load())
	if differences.Load() == 0 {
		t.Error("none was") // for another member, it may be: where nobody falls behind while others do
	}
	judgeStress(t, committed[:], got)
}

// readTogether is a worker with a member in each subscription. It returns what each has read, once there is nothing left.
func readTogether(t *testing.T, control, conn *pgx.Conn, subscriptions int, over <-chan struct{}, differences, pages *atomic.Int64) [][]engine.Event {
	ctx := context.Background()
	var (
		subs    []engine.Subscription
		ids     []int32
		members []*engine.Member
		got     = make([][]engine.Event, subscriptions)
	)
	for i := range subscriptions {
		s, err := engine.Subscribe(ctx, control, fmt.Sprint("together-", i), []string{"stress.>"}, outbox.FromBeginning)
		if err != nil {
			t.Error(err)
			return nil
		}
		subs, ids = append(subs, s), append(ids, s.ID)
	}
	id, err := engine.Join(ctx, control, "together", true, time.Hour, ids)
	if err != nil {
		t.Error(err)
		return nil
	}
	for _, s := range subs {
		members = append(members, engine.NewMember(conn, id, s))
	}
	sharing(members)
	defer func() {
		if _, err := engine.Evict(ctx, control, id, "test"); err != nil {
			t.Error(err)
		}
	}()
	limit := func() int {
		if rand.N(4) == 0 {
			return 8 // it is cut
		}
		return 1000
	}
	settle := func(i int, w *engine.Window) error {
		if w.Empty() {
			return nil
		}
		got[i] = append(got[i], w.Events...)
		return members[i].Settle(ctx, engine.Settlement{Window: w})
	}
	for quiet := 0; ; {
		done := false
		select {
		case <-over:
			done = true
		default:
		}
		found, whole := false, true
		round := func() error {
			var (
				stands []engine.Stand
				at     []int
			)
			for i, m := range members {
				if !done && rand.N(200) == 0 {
					if _, err := m.Release(ctx, rand.N(engine.Lanes)); err != nil {
						return err
					}
				}
				if rand.N(20) == 0 || done {
					if _, err := m.Claim(ctx, engine.Lanes/2); err != nil {
						return err
					}
				}
				whole = whole && len(m.Lanes()) == engine.Lanes/2
				if rand.N(4) == 0 {
					continue // it is left out
				}
				if stand, ok := m.Stand(); ok {
					stands, at = append(stands, stand), append(at, i)
					continue
				}
				w, err := m.Read(ctx, limit())
				if err != nil {
					return err
				}
				found = found || !w.Empty()
				if w.Old() {
					pages.Add(int64(len(w.Events)))
				}
				if err := settle(i, w); err != nil {
					return err
				}
			}
			if len(stands) == 0 {
				return nil
			}
			d, err := engine.ReadDifference(ctx, conn, stands)
			if err != nil {
				return err
			}
			for _, i := range at {
				if d.More() {
					w, err := members[i].Read(ctx, limit())
					if err == nil {
						found = found || !w.Empty()
						err = settle(i, w)
					}
					if err != nil {
						return err
					}
					continue
				}
				w := members[i].Move(d)
				found = found || !w.Empty()
				if rand.N(10) == 0 {
					members[i].PutBack(w)
					continue
				}
				differences.Add(int64(len(w.Events)))
				if err := settle(i, w); err != nil {
					return err
				}
			}
			return nil
		}
		if err := round(); err != nil {
			t.Error(err)
			return got
		}
		if quiet++; found || !whole {
			quiet = 0
		}
		if done && quiet > 40 {
			return got
		}
	}
}

// judgeStress checks what was read, by subscription and member: all that was committed, once, in the order of its key.
func judgeStress(t *testing.T, committed []int, got [][][]engine.Event) {
	t.Helper()
	total := 0
	for _, n := range committed {
		total += n
	}
	t.Logf("%d events committed", total)
	for s := range got {
		lost, phantom, repeated, disordered := 0, 0, 0, 0
		seen := map[mark]int{}
		for m := range got[s] {
			last := map[string]mark{}
			for _, e := range got[s][m] {
				var mk mark
				if err := json.Unmarshal(e.Payload, &mk); err != nil {
					t.Fatal(err)
				}
				seen[mk]++
				if before, ok := last[e.Key]; ok && e.Key != "" && before.N > mk.N {
					disordered++
				}
				last[e.Key] = mk
				if mk.N < 0 || mk.N >= committed[mk.Publisher] {
					phantom++
				}
			}
		}
		for p := range committed {
			for n := range committed[p] {
				switch seen[mark{p, n}] {
				case 0:
					lost++
				case 1:
				default:
					repeated++
				}
			}
		}
		if lost+phantom+repeated+disordered > 0 {
			t.Errorf("subscription %d: %d lost, %d phantom, %d repeated, %d out of order", s, lost, phantom, repeated, disordered)
		}
	}
}

// publishStress commits events until the deadline and returns how many. Rolled-back ones carry a negative number.
func publishStress(t *testing.T, conn *pgx.Conn, publisher int, deadline time.Time) (committed int) {
	ctx := context.Background()
	errRollback := errors.New("roll back")
	nap := func(most time.Duration) { time.Sleep(rand.N(most)) } // the fault to inject, not a synchronisation
	insert := func(db outbox.DB, n int) error {
		key := ""
		if n%3 != 0 {
			key = fmt.Sprintf("key-%d-%d", publisher, rand.N(3))
		}
		e, err := outbox.NewEvent("stress.happened", key, mark{publisher, n})
		if err == nil {
			_, err = outbox.Publish(ctx, db, e)
		}
		return err
	}
	for time.Now().Before(deadline) {
		n := committed
		dice := rand.N(100)
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if dice < 30 { // takes its transaction id long before its event ids
				if _, err := tx.Exec(ctx, `select pg_current_xact_id()`); err != nil {
					return err
				}
				nap(10 * time.Millisecond)
			}
			for range 1 + rand.N(3) {
				if dice%10 == 3 { // a subtransaction that comes to nothing
					err := pgx.BeginFunc(ctx, tx, func(sub pgx.Tx) error {
						if err := insert(sub, -1); err != nil {
							return err
						}
						return errRollback
					})
					if !errors.Is(err, errRollback) {
						return err
					}
				}
				number := n
				if dice >= 90 {
					number = -1
				}
				if err := insert(tx, number); err != nil {
					return err
				}
				n++
			}
			if dice%4 == 1 { // commits long after it took its ids
				nap(15 * time.Millisecond)
			}
			if dice%50 == 2 {
				nap(300 * time.Millisecond)
			}
			if dice >= 90 {
				return errRollback
			}
			return nil
		})
		switch {
		case err == nil:
			committed = n
		case !errors.Is(err, errRollback):
			t.Error(err)
			return committed
		}
	}
	return committed
}

// readStress is a worker in its barest form. It returns what it read, in windows of at most limit events, once a subscription
// has nothing left.
func readStress(t *testing.T, control, conn *pgx.Conn, subscription string, limit int, over <-chan struct{}) (events []engine.Event) {
	ctx := context.Background()
	s, err := engine.Subscribe(ctx, control, subscription, []string{"stress.>"}, outbox.FromBeginning)
	if err != nil {
		t.Error(err)
		return nil
	}
	id, err := engine.Join(ctx, control, subscription, true, time.Hour, []int32{s.ID})
	if err != nil {
		t.Error(err)
		return nil
	}
	m := engine.NewMember(conn, id, s)
	defer func() {
		if _, err := engine.Evict(ctx, control, id, "test"); err != nil {
			t.Error(err)
		}
	}()
	for quiet := 0; ; {
		done := false
		select {
		case <-over:
			done = true
		default:
		}
		// Lanes go back and forth between the members.
		if rand.N(200) == 0 {
			if _, err := m.Release(ctx, rand.N(engine.Lanes)); err != nil {
				t.Error(err)
				return events
			}
		}
		if _, err := m.Claim(ctx, engine.Lanes/2); err != nil {
			t.Error(err)
			return events
		}
		w, err := m.Read(ctx, limit)
		if err != nil {
			t.Error(err)
			return events
		}
		events = append(events, w.Events...)
		if !w.Empty() {
			if err := m.Settle(ctx, engine.Settlement{Window: w}); err != nil {
				t.Error(err)
				return events
			}
			quiet = 0
			continue
		}
		if quiet++; done && quiet > 20 && len(m.Lanes()) == engine.Lanes/2 {
			return events
		}
	}
}

// TestStressAtSpeed publishes tens of thousands of events a second, each in a transaction of its own, to readers that keep up:
// then ids are taken all the time while they look how far the log is. It loses events within a minute when readers take the
// last id from the row of the sequence.
func TestStressAtSpeed(t *testing.T) {
	t.Parallel()
	const publishers, members = 2, 2
	db := pgtest.New(t)
	var (
		publishing, reading sync.WaitGroup
		over                = make(chan struct{})
		deadline            = time.Now().Add(*stressFor)
		got                 [members][]engine.Event
	)
	for range publishers {
		conn := db.Conn(t)
		publishing.Go(func() {
			const publish = `
				do $$
				begin
					for i in 1..500 loop
						insert into outbox.events (topic, payload) values ('stress.happened', '{}');
						commit;
					end loop;
				end $$`
			_, err := conn.Exec(t.Context(), `set synchronous_commit = off`) // as if storage cost nothing
			for err == nil && time.Now().Before(deadline) {
				_, err = conn.Exec(t.Context(), publish)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	for m := range members {
		control, conn := db.Conn(t), db.Conn(t)
		reading.Go(func() { got[m] = readStress(t, control, conn, "subscription", 20000, over) })
	}
	publishing.Wait()
	close(over)
	reading.Wait()

	seen := map[int64]int{}
	for m := range members {
		for _, e := range got[m] {
			seen[e.ID]++
		}
	}
	rows, _ := db.Pool.Query(t.Context(), `select e.id from outbox.events e`)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		t.Fatal(err)
	}
	lost, repeated := 0, 0
	for _, id := range ids {
		switch seen[id] {
		case 0:
			lost++
		case 1:
		default:
			repeated++
		}
	}
	t.Logf("%d events committed", len(ids))
	if lost+repeated > 0 || len(ids) == 0 {
		t.Errorf("%d of %d events lost, %d repeated", lost, len(ids), repeated)
	}
}
