package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

func record(l *ledger) func(context.Context, *worker.Event[payload]) error {
	return func(_ context.Context, e *worker.Event[payload]) error {
		l.add(e)
		return nil
	}
}

var everything = []string{">"}

func TestWorkersMayBeAway(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l := newLedger()
	s := worker.Subscription{Name: "s", Topics: everything}
	for round := 1; round <= 3; round++ {
		publish(t, db.Pool, "k", 0, 50) // while nobody is there
		stop := start(t, db.Pool, worker.Config{}, s, record(l))
		l.waitFor(t, 50*round)
		stop()
	}
	if n := len(l.all()); n != 150 {
		t.Errorf("%d events were handled, want 150", n)
	}
	late := newLedger() // a later subscription sees the whole log
	start(t, db.Pool, worker.Config{}, worker.Subscription{Name: "later", Topics: everything}, record(late))
	late.waitFor(t, 150)
}

func TestFromNow(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publish(t, db.Pool, "", 0, 10)
	running := db.Conn(t)
	tx, err := running.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	publish(t, tx, "", 10, 11)
	publish(t, db.Pool, "", 11, 12)
	if _, err := engine.Subscribe(t.Context(), db.Pool, "s", everything, outbox.FromNow); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, db.Pool, "", 12, 13)
	l := newLedger()
	stop := start(t, db.Pool, worker.Config{}, worker.Subscription{Name: "s"}, record(l))
	l.waitFor(t, 2)
	eventually(t, 10*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	stop()
	got := map[int]bool{}
	for _, e := range l.all() {
		got[e.Payload.N] = true
	}
	if len(l.all()) != 2 || !got[10] || !got[12] {
		t.Errorf("got %v, want 10, which was published before and committed after, and 12", l.all())
	}
}

func TestTopicsAreFiltered(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l := newLedger()
	start(t, db.Pool, worker.Config{}, worker.Subscription{Name: "s", Topics: []string{"a.*", "b.>"}}, record(l))
	for n, topic := range []string{"a", "a.x", "a.x.y", "b", "b.x.y", "c.x", "a.last"} {
		e, err := outbox.NewEvent(topic, "", payload{n})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := outbox.Publish(t.Context(), db.Pool, e); err != nil {
			t.Fatal(err)
		}
	}
	l.waitFor(t, 3)
	eventually(t, 10*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	got := map[string]bool{}
	for _, e := range l.all() {
		got[e.Topic] = true
	}
	if len(l.all()) != 3 || !got["a.x"] || !got["b.x.y"] || !got["a.last"] {
		t.Errorf("handled %v", got)
	}
}

// TestOpenTransaction leaves a transaction open that has published: it delays nobody, and its events arrive on commit.
func TestOpenTransaction(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l := newLedger()
	start(t, db.Pool, worker.Config{}, worker.Subscription{Name: "s", Topics: everything}, record(l))
	open := db.Conn(t)
	tx, err := open.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	publish(t, tx, "open", 0, 3)
	for n := range 200 {
		publish(t, db.Pool, "k", n, n+1)
		if n%20 == 0 {
			l.waitFor(t, n+1) // so that many reads pass the open one
		}
	}
	l.waitFor(t, 200)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	events := l.waitFor(t, 203)
	for i, e := range events[200:] {
		if e.Key != "open" || e.Payload.N != i {
			t.Errorf("after the commit came %s %d", e.Key, e.Payload.N)
		}
	}
}

// TestHugeTransaction commits 100,000 events at once, below cursors that have passed them, and checks that the worker
// does not hold them in memory, nor handles one twice, though it is stopped in between.
func TestHugeTransaction(t *testing.T) {
	const huge = 100_000
	db := pgtest.New(t)
	var (
		count, other atomic.Int64
		seen         = make([]atomic.Int32, huge+1)
		half         = make(chan struct{})
	)
	handler := func(_ context.Context, e *worker.Event[payload]) error {
		if e.Topic != "huge.event" {
			other.Add(1)
			return nil
		}
		seen[e.Payload.N].Add(1)
		if count.Add(1) == huge/2 {
			close(half)
		}
		return nil
	}
	s := worker.Subscription{Name: "s", Topics: everything}
	stop := start(t, db.Pool, worker.Config{}, s, handler)
	conn := db.Conn(t)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(t.Context(), `
		insert into outbox.events (topic, key, payload)
		select 'huge.event', 'key-' || i % 100, jsonb_build_object('n', i, 'filler', repeat('x', 100)) from generate_series(1, $1) i`, huge)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, db.Pool, "", 0, 1)
	eventually(t, 20*time.Second, "the cursors have passed them", func() bool { return other.Load() >= 1 })
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var peak uint64
	runtime.GC() // what other tests have left
	watch := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapInuse)
	}
	for waiting := true; waiting; {
		select {
		case <-half:
			waiting = false
		case <-time.After(20 * time.Millisecond):
			watch()
		}
	}
	stop()
	start(t, db.Pool, worker.Config{}, s, handler)
	eventually(t, 3*time.Minute, "all are handled", func() bool { watch(); return count.Load() >= huge })
	for n := range huge {
		if times := seen[n+1].Load(); times != 1 {
			t.Fatalf("event %d was handled %d times", n+1, times)
		}
	}
	if t.Logf("the heap grew to %d MiB", peak>>20); peak > 25<<20 {
		t.Error("that is too much: windows are bounded")
	}
}

// TestIdle checks that two workers with nothing to do, and forty subscriptions, send no more than 1.5 statements a second, and the one that is
// the sentinel 2.5; and that the doorbell wakes them without waiting for the poll.
func TestIdle(t *testing.T) {
	t.Parallel()
	const n, seconds = 40, 8
	db := pgtest.New(t)
	var trips [2]atomic.Int64
	var handled [2]*atomic.Int64
	for i := range trips {
		handled[i] = serveTopics(t, &pgtest.DB{Pool: counted(t, db, &trips[i], "signalbox worker")}, fmt.Sprint("w", i), n)
	}
	publishTopics(t, db, n, 1)
	count := func() int64 { return handled[0].Load() + handled[1].Load() }
	eventually(t, 60*time.Second, "all is settled", func() bool { return count() >= n && settledAll(t, db.Pool) })
	waitArmed(t, db.Pool)
	var sentinel string
	eventually(t, 60*time.Second, "the lanes are shared, and those who were told have looked", func() bool {
		var lanes map[string]int
		lanes, sentinel = owners(t, db.Pool)
		var connections int
		err := db.Pool.QueryRow(t.Context(), `
			select count(*) from pg_stat_activity a
			where a.datname = current_database() and a.application_name like 'signalbox%'`).Scan(&connections)
		return lanes["w0"] == 32 && lanes["w1"] == 32 && err == nil && connections == 2*3+2
	})
	before, began := [2]int64{trips[0].Load(), trips[1].Load()}, time.Now()
	time.Sleep(seconds * time.Second) // idleness is what is measured
	idle := time.Since(began).Seconds()
	for i := range trips {
		most := 1.5
		if sentinel == fmt.Sprint("w", i) {
			most = 2.5
		}
		sent := float64(trips[i].Load() - before[i])
		rate := sent / idle
		if t.Logf("w%d: %.2f statements a second", i, rate); sent > most*idle+4 { // as many as at both ends, and as a busy machine has bunched
			t.Errorf("w%d sends %.2f statements a second, may send %.1f", i, rate, most)
		}
	}
	var late []time.Duration
	for range 10 {
		start, before := time.Now(), count()
		publishTopics(t, db, 1, 1)
		eventually(t, 20*time.Second, "the event is handled", func() bool { return count() > before })
		if took := time.Since(start); took > 500*time.Millisecond {
			late = append(late, took)
		}
	}
	if len(late) > 2 { // as on a busy machine; without the doorbell, half of them would wait for so long
		t.Errorf("the doorbell took %v", late)
	}
}

func waitArmed(t *testing.T, db outbox.DB) {
	t.Helper()
	eventually(t, 20*time.Second, "the doorbell is armed", func() bool {
		s, err := admin.GetStatus(t.Context(), db)
		return err == nil && s.Doorbell == "armed"
	})
}

// TestWithoutDoorbell checks the fallback: whatever happens to notifications, polling finds everything.
func TestWithoutDoorbell(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Pool.Exec(t.Context(), `alter table outbox.events disable trigger doorbell`); err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	start(t, db.Pool, worker.Config{PollInterval: 200 * time.Millisecond}, worker.Subscription{Name: "s", Topics: everything}, record(l))
	waitArmed(t, db.Pool) // until then the sentinel looks for itself
	for n := range 5 {
		publish(t, db.Pool, "", n, n+1)
		l.waitFor(t, n+1)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	noop := func(context.Context, *worker.Event[payload]) error { return nil }
	run := func(t *testing.T, pool *pgxpool.Pool, s worker.Subscription) error {
		t.Helper()
		w, err := worker.New(pool, worker.Config{Logger: testLogger(t)})
		if err != nil {
			t.Fatal(err)
		}
		if err := worker.Handle(w, s, noop); err != nil {
			return err
		}
		return w.Run(ctx)
	}
	t.Run("no schema", func(t *testing.T) {
		t.Parallel()
		err := run(t, pgtest.NewEmpty(t).Pool, worker.Subscription{Name: "s", Topics: everything})
		if !errors.Is(err, migrations.ErrMissing) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("newer schema", func(t *testing.T) {
		t.Parallel()
		db := pgtest.New(t)
		if _, err := db.Pool.Exec(ctx, `update public.signalbox_outbox_version set version = version + 1`); err != nil {
			t.Fatal(err)
		}
		err := run(t, db.Pool, worker.Subscription{Name: "s", Topics: everything})
		var version *migrations.VersionError
		if !errors.As(err, &version) || version.Have != version.Newest+1 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("other cluster", func(t *testing.T) {
		t.Parallel()
		db := pgtest.New(t)
		if _, err := db.Pool.Exec(ctx, `update outbox.cluster set system_identifier = 1`); err != nil {
			t.Fatal(err)
		}
		err := run(t, db.Pool, worker.Subscription{Name: "s", Topics: everything})
		if !errors.Is(err, outbox.ErrForeignCluster) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("unknown subscription without topics", func(t *testing.T) {
		t.Parallel()
		err := run(t, pgtest.New(t).Pool, worker.Subscription{Name: "s"})
		if !errors.Is(err, outbox.ErrUnknownSubscription) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("malformed topic", func(t *testing.T) {
		t.Parallel()
		err := run(t, pgtest.New(t).Pool, worker.Subscription{Name: "s", Topics: []string{"a..b"}})
		if !errors.Is(err, outbox.ErrInvalidSubscription) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no name", func(t *testing.T) {
		t.Parallel()
		if err := run(t, pgtest.New(t).Pool, worker.Subscription{}); !errors.Is(err, worker.ErrInvalidConfig) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("bad config", func(t *testing.T) {
		t.Parallel()
		pool := pgtest.New(t).Pool
		for _, cfg := range []worker.Config{
			{Concurrency: -1}, {WindowSize: math.MinInt}, {PollInterval: time.Millisecond}, {Lease: time.Second},
		} {
			if _, err := worker.New(pool, cfg); !errors.Is(err, worker.ErrInvalidConfig) {
				t.Errorf("%+v: got %v", cfg, err)
			}
		}
	})
	t.Run("bad subscription", func(t *testing.T) {
		t.Parallel()
		w, err := worker.New(pgtest.New(t).Pool, worker.Config{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []worker.Subscription{
			{Concurrency: -1},
			{WindowSize: -1},
			{Retry: worker.Retry{InitialInterval: -1}},
			{Retry: worker.Retry{MaxInterval: -1}},
			{Retry: worker.Retry{Multiplier: -1}},
			{Retry: worker.Retry{InitialInterval: time.Minute, MaxInterval: time.Second}},
			{Retry: worker.Retry{Multiplier: 0.5}},
			{Retry: worker.Retry{Multiplier: math.NaN()}},
			{Retry: worker.Retry{Jitter: 1.5}},
			{Retry: worker.Retry{Jitter: math.NaN()}},
		} {
			s.Name = "s"
			if err := worker.Handle(w, s, record(newLedger())); !errors.Is(err, worker.ErrInvalidConfig) {
				t.Errorf("%+v: got %v", s, err)
			}
		}
	})
	t.Run("missing parts", func(t *testing.T) {
		t.Parallel()
		if _, err := worker.New(nil, worker.Config{}); !errors.Is(err, worker.ErrInvalidConfig) {
			t.Errorf("no pool: got %v", err)
		}
		w, err := worker.New(pgtest.New(t).Pool, worker.Config{})
		if err != nil {
			t.Fatal(err)
		}
		s := worker.Subscription{Name: "s", Topics: everything}
		for name, err := range map[string]error{
			"Handle":        worker.Handle[payload](w, s, nil),
			"HandleBatch":   worker.HandleBatch[payload](w, s, nil),
			"HandleTx":      worker.HandleTx[payload](w, s, nil),
			"HandleBatchTx": worker.HandleBatchTx[payload](w, s, nil),
		} {
			if !errors.Is(err, worker.ErrInvalidConfig) {
				t.Errorf("%s without a handler: got %v", name, err)
			}
		}
		for _, m := range []worker.Middleware{nil, func(worker.Handler) worker.Handler { return nil }} {
			s.Middleware = []worker.Middleware{m}
			if err := worker.Handle(w, s, record(newLedger())); !errors.Is(err, worker.ErrInvalidConfig) {
				t.Errorf("no middleware: got %v", err)
			}
		}
	})
}

// TestCreationIsLogged starts a worker for a new subscription beside a log with old events, and again.
func TestCreationIsLogged(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publish(t, db.Pool, "", 0, 5)
	for name, want := range map[string]string{"past": "level=WARN", "future": "level=INFO"} {
		s := worker.Subscription{Name: name, Topics: everything}
		if name == "future" {
			s.Start = outbox.FromNow
		}
		for _, first := range []bool{true, false} {
			var lines syncBuffer
			w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.NewTextHandler(&lines, nil))})
			if err != nil {
				t.Fatal(err)
			}
			if err := worker.Handle(w, s, func(context.Context, *worker.Event[payload]) error { return nil }); err != nil {
				t.Fatal(err)
			}
			stop := runUntilStopped(t, w)
			eventually(t, 20*time.Second, "it serves", func() bool { return w.Ready() == nil })
			stop()
			var created string
			for line := range strings.Lines(lines.String()) {
				if strings.Contains(line, "created subscription") {
					created = line
				}
			}
			if first != strings.Contains(created, want) || first && name == "past" && !strings.Contains(created, "old_events=5") {
				t.Errorf("%s, first %t: it said %q", name, first, created)
			}
		}
	}
}
