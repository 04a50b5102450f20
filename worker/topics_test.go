package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// A publishedEvent is what traffic has committed.
type publishedEvent struct {
	id    int64
	topic string
	phase int32 // in which it was published
}

// traffic publishes events of topics a and b, with and without keys, each in a transaction that is open for a while.
type traffic struct {
	phase  atomic.Int32
	paused sync.RWMutex // held while nothing is to be published

	mu     sync.Mutex
	events []publishedEvent
}

func (f *traffic) run(t *testing.T, db *pgtest.DB) {
	ctx, cancel := context.WithCancel(t.Context())
	var publishers sync.WaitGroup
	for range 4 {
		publishers.Go(func() {
			for ctx.Err() == nil {
				f.paused.RLock()
				f.publish(ctx, db)
				f.paused.RUnlock()
				time.Sleep(rand.N(5 * time.Millisecond)) // a pace, and no wait for anything
			}
		})
	}
	t.Cleanup(func() { cancel(); publishers.Wait() })
}

func (f *traffic) publish(ctx context.Context, db *pgtest.DB) {
	tx, err := db.Pool.Begin(ctx)
	if err != nil {
		return
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // unless it was committed
	e := outbox.Event{Topic: []string{"a", "b"}[rand.N(2)], Payload: []byte(`{}`)}
	if key := rand.N(20); key > 0 {
		e.Key = fmt.Sprintf("k%d", key)
	}
	p := publishedEvent{topic: e.Topic, phase: f.phase.Load()}
	ids, err := outbox.Publish(ctx, tx, e)
	if err != nil {
		return
	}
	p.id = ids[0].ID
	if rand.N(10) == 0 {
		time.Sleep(rand.N(100 * time.Millisecond)) // late
	}
	if tx.Commit(ctx) == nil {
		f.mu.Lock()
		f.events = append(f.events, p)
		f.mu.Unlock()
	}
}

// quiet waits until what was published is committed and handled. Nothing is published until the returned function is called.
func (f *traffic) quiet(t *testing.T, db *pgtest.DB) (goOn func()) {
	t.Helper()
	f.paused.Lock()
	goOn = sync.OnceFunc(f.paused.Unlock)
	t.Cleanup(goOn)
	eventually(t, 60*time.Second, "all is handled", func() bool { return settledAll(t, db.Pool) })
	return goOn
}

// grow waits until a good deal more was published.
func (f *traffic) grow(t *testing.T) {
	t.Helper()
	count := func() int { f.mu.Lock(); defer f.mu.Unlock(); return len(f.events) }
	before := count()
	eventually(t, 60*time.Second, "more is published", func() bool { return count() > before+100 })
}

func setTopics(t *testing.T, db *pgtest.DB, o admin.TopicsOptions, topics ...string) admin.TopicsChange {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	change, err := admin.SetTopics(ctx, db.Pool, "s", topics, o)
	if err != nil {
		t.Fatal(err)
	}
	return change
}

// TestRollingDeployOfTopics deploys workers that know a topic more, under traffic: it is killed in the middle of the change, rolled back,
// and rolled forward again with a back-fill. Every event is handled as often as that promises, and none is a dead letter.
func TestRollingDeployOfTopics(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Pool.Exec(t.Context(), `create table public.ledger (event_id bigint not null, worker text not null)`); err != nil {
		t.Fatal(err)
	}
	deploy := func(name string, topics ...string) *process {
		return spawn(t, processConfig{URL: db.URL, Subscription: "s", Name: name, Topics: topics, Ledger: true, Attempts: 3})
	}
	owners := func() (names string) {
		if err := db.Pool.QueryRow(t.Context(), `
			select coalesce(string_agg(distinct left(w.name, 3), ' '), '') from outbox.lanes l join outbox.workers w on w.id = l.owner`).Scan(&names); err != nil {
			t.Fatal(err)
		}
		return names
	}
	f := &traffic{}
	var old []*process
	for i := range 3 {
		old = append(old, deploy(fmt.Sprintf("old-%d", i), "a"))
	}
	eventually(t, 30*time.Second, "the old ones serve", func() bool { return owners() == "old" })
	f.run(t, db)
	f.grow(t)
	goOn := f.quiet(t, db)
	f.phase.Store(1) // b may be handled, or not
	goOn()

	// The first new worker serves what there is, beside the old ones.
	old[0].stop(t)
	first := deploy("new-0", "a", "b")
	eventually(t, 30*time.Second, "both serve", func() bool { return owners() == "new old" })
	f.grow(t)

	// It is killed while the change waits for its lanes, and its heir has them all.
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		eventually(t, 30*time.Second, "the change is asked for", func() bool {
			row, err := admin.GetSubscription(context.Background(), db.Pool, "s")
			return err == nil && (row.TopicsTo != nil || len(row.Topics) == 2)
		})
		first.Signal(syscall.SIGKILL)
	}()
	setTopics(t, db, admin.TopicsOptions{}, "a", "b")
	<-killed
	f.phase.Store(2) // b is handled
	f.grow(t)
	if names := owners(); strings.Contains(names, "old") {
		t.Errorf("lanes are owned by %s, of whom the old ones do not know topic b", names)
	}
	young := []*process{deploy("new-1", "a", "b")}
	eventually(t, 30*time.Second, "the new one serves", func() bool { return owners() == "new" })
	old[1].stop(t)
	young = append(young, deploy("new-2", "a", "b"))
	f.grow(t)

	// Rolled back: nobody knows b, until it is taken away.
	goOn = f.quiet(t, db)
	var back int64
	for _, p := range young {
		p.stop(t)
	}
	if err := db.Pool.QueryRow(t.Context(), `select max(e.id) from outbox.events e`).Scan(&back); err != nil {
		t.Fatal(err)
	}
	f.phase.Store(3) // b is handled once it is back-filled
	goOn()
	old = []*process{deploy("old-3", "a"), deploy("old-4", "a"), old[2]}
	f.grow(t)
	if names := owners(); names != "" {
		t.Errorf("lanes are owned by %s, who do not know topic b", names)
	}
	setTopics(t, db, admin.TopicsOptions{}, "a")
	eventually(t, 30*time.Second, "the old ones serve again", func() bool { return owners() == "old" })
	f.grow(t)

	// And forward again: first the workers, then the topics, from where they were lost.
	for i, p := range old {
		p.stop(t)
		deploy(fmt.Sprintf("new-%d", 3+i), "a", "b")
	}
	f.grow(t)
	change := setTopics(t, db, admin.TopicsOptions{BackfillFrom: outbox.FromID(back + 1)}, "a", "b")
	if change.Backfilled == 0 {
		t.Error("nothing was back-filled")
	}
	f.grow(t)
	goOn = f.quiet(t, db)

	handled := map[int64]int{}
	rows, err := db.Pool.Query(t.Context(), `select l.event_id, count(*) from public.ledger l group by l.event_id`)
	if err != nil {
		t.Fatal(err)
	}
	var id int64
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error { handled[id] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	faults, counts := 0, map[string]int{}
	for _, e := range f.events {
		counts[fmt.Sprintf("%s in phase %d", e.topic, e.phase)] += handled[e.id]
		least, most := 1, 1
		if e.topic == "b" {
			switch e.phase {
			case 0:
				least, most = 0, 0
			case 1:
				least = 0
			}
		}
		if n := handled[e.id]; n < least || n > most {
			if faults++; faults <= 10 {
				t.Errorf("event %d of topic %s, of phase %d, was handled %d times", e.id, e.topic, e.phase, n)
			}
		}
	}
	all := len(f.events)
	f.mu.Unlock()
	goOn()
	t.Logf("%d events, handled: %v, %d faults", all, counts, faults)
	if n := deliveries(t, db); n > 0 {
		t.Errorf("%d deliveries are left", n)
	}
}

// TestWorkersThatKnowLess has a delivery of a topic that a worker does not know wait for one that does, and says what to do where there
// is no such worker.
func TestWorkersThatKnowLess(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	said := &lines{}
	run := func(l *ledger, fails bool, topics ...string) (stop func()) {
		w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.NewTextHandler(said, nil)), PollInterval: 100 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		s := worker.Subscription{Name: "s", Topics: topics, Retry: worker.Retry{MaxAttempts: 2, InitialInterval: time.Hour}}
		if err := worker.Handle(w, s, func(_ context.Context, e *worker.Event[payload]) error {
			if fails && e.Topic == "b" {
				return worker.RetryAfter(0, fmt.Errorf("not yet"))
			}
			l.add(e)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return runUntilStopped(t, w)
	}
	send := func(topics ...string) {
		for i, topic := range topics {
			if _, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: topic, Key: "k", Payload: fmt.Appendf(nil, `{"n": %d}`, i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	l := newLedger()
	stop := run(newLedger(), true, "a", "b")
	send("b")
	eventually(t, 30*time.Second, "it is a dead letter, by the rules", func() bool { return len(rows(t, db)) == 1 && rows(t, db)[0].State == "dead" })
	stop()
	send("b", "a") // and these are unread

	// Rolled back, with the topics as they are.
	stopOld := run(l, false, "a")
	eventually(t, 30*time.Second, "it says what to do", func() bool { return said.has("no worker knows all topics") && said.has("unknown=[b]") })
	eventually(t, 30*time.Second, "the status says that it is unserved", func() bool {
		status, err := admin.GetStatus(t.Context(), db.Pool)
		return err == nil && slices.ContainsFunc(status.Concerns, func(c admin.Concern) bool { return c.Kind == admin.ConcernUnserved && c.Subscription == "s" })
	})
	if _, err := admin.RetryDeliveries(t.Context(), db.Pool, admin.DeliveryFilter{Subscription: "s"}); err != nil {
		t.Fatal(err)
	}
	setTopics(t, db, admin.TopicsOptions{}, "a")
	// The delivery of b is there, and holds up its key; the old worker leaves it to others.
	eventually(t, 30*time.Second, "the old one has met it", func() bool {
		list := rows(t, db)
		return len(list) == 2 && list[0].State == "retrying" && list[0].Attempt == 0 && strings.Contains(list[0].Errors[len(list[0].Errors)-1].Error, "does not know topic b")
	})
	if handled := l.all(); len(handled) > 0 {
		t.Errorf("%d events were handled", len(handled))
	}
	stopOld()
	run(l, false, "a", "b")
	var got []string
	for _, e := range l.waitFor(t, 2) {
		got = append(got, e.Topic)
	}
	if !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("handled %v", got)
	}
	eventually(t, 30*time.Second, "it says that more could be had", func() bool { return said.has("missing=[b]") })
}
