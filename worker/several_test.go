package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// in makes an outbox of a name in a database.
func in(t *testing.T, db *pgtest.DB, name string) outbox.Outbox {
	t.Helper()
	o, err := outbox.In(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := apply.Up(t.Context(), db.Conn(t), migrations.For(o)); err != nil {
		t.Fatal(err)
	}
	return o
}

// recorded returns a pool like the database's, and what is sent over its connections, and over those that workers make with its
// configuration.
func recorded(t *testing.T, db *pgtest.DB) (*pgxpool.Pool, *syncBuffer) {
	t.Helper()
	sent := &syncBuffer{}
	config := db.Pool.Config()
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &recordedConn{conn, sent}, nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool, sent
}

type recordedConn struct {
	net.Conn
	sent *syncBuffer
}

func (c *recordedConn) Write(b []byte) (int, error) {
	_, _ = c.sent.Write(b)
	return c.Conn.Write(b)
}

// TestAnotherOutbox serves an outbox in a database that has no default one, in every form, with failures, decisions, a rewind, an
// eviction and retention: no statement is about the default outbox, and those of handlers are sent as they are.
func TestAnotherOutbox(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	billing := in(t, db, "billing")
	ctx := t.Context()
	pool, sent := recorded(t, db)
	view := billing.DB(pool)

	var stuck atomic.Bool
	stuck.Store(true)
	work := func(n int) error {
		switch {
		case n%10 == 3:
			return worker.Skip("not wanted")
		case n%10 == 4 && stuck.Load():
			return errors.New("not yet")
		case n%10 == 5 && stuck.Load():
			return worker.DeadLetter(errors.New("never"))
		case n%10 == 6:
			time.Sleep(20 * time.Millisecond) // it is parked
		}
		return nil
	}
	const theirs = `select 'outbox.' || 'mine'`
	inTx := func(ctx context.Context, tx pgx.Tx, n int) error {
		var got string
		if err := tx.QueryRow(ctx, theirs).Scan(&got); err != nil || got != "outbox.mine" {
			return fmt.Errorf("the handler's statement gave %q: %w", got, err)
		}
		if n == 1 {
			e, err := outbox.NewEvent("more.happened", "k", payload{1000})
			if err == nil {
				_, err = billing.Publish(ctx, tx, e)
			}
			if err != nil {
				return err
			}
		}
		return work(n)
	}
	crew := func() *worker.Worker {
		w, err := worker.New(pool, worker.Config{
			Outbox: billing, Logger: testLogger(t), PollInterval: 50 * time.Millisecond, Retention: 50 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		s := func(name string) worker.Subscription {
			return worker.Subscription{
				Name: name, Topics: []string{"test.*"}, ParkAfter: 5 * time.Millisecond, Retry: worker.Retry{InitialInterval: 20 * time.Millisecond, MaxInterval: time.Second, MaxAttempts: 1000},
			}
		}
		if err := errors.Join(
			worker.Handle(w, s("each"), func(_ context.Context, e *worker.Event[payload]) error { return work(e.Payload.N) }),
			worker.HandleBatch(w, s("batch"), func(context.Context, []*worker.Event[payload]) error { return nil }),
			worker.HandleTx(w, s("tx"), func(ctx context.Context, tx pgx.Tx, e *worker.Event[payload]) error {
				return inTx(ctx, tx, e.Payload.N)
			}),
			worker.HandleBatchTx(w, s("batchtx"), func(ctx context.Context, tx pgx.Tx, _ []*worker.Event[payload]) error {
				return inTx(ctx, tx, 0)
			}),
		); err != nil {
			t.Fatal(err)
		}
		return w
	}
	stop := runUntilStopped(t, crew())
	runUntilStopped(t, crew())
	publishIn := func(from, to int) {
		t.Helper()
		var events []outbox.Event
		for n := from; n < to; n++ {
			e, err := outbox.NewEvent("test.happened", fmt.Sprint(n%7), payload{n})
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		if _, err := billing.Publish(ctx, pool, events[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := billing.Publish(ctx, pool, events[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	publishIn(0, 100)
	if n, err := billing.PublishFrom(ctx, pool, func(yield func(outbox.Event, error) bool) {
		for n := range 100 {
			if !yield(outbox.NewEvent("test.copied", "", payload{100 + n})) {
				return
			}
		}
	}); err != nil || n != 100 {
		t.Fatal(n, err)
	}
	eventually(t, 20*time.Second, "there are retries and dead letters", func() bool {
		s, err := admin.GetStatus(ctx, view)
		if err != nil || len(s.Subscriptions) != 4 {
			return false
		}
		for _, one := range s.Subscriptions {
			fails := one.Name == "each" || one.Name == "tx"
			if one.Lag.Events > 0 || fails && (one.Deliveries[outbox.Dead] == 0 || one.Deliveries[outbox.Retrying] == 0) {
				return false
			}
		}
		return s.Doorbell != "unattended"
	})
	stop()
	stuck.Store(false)
	for _, name := range []string{"each", "tx"} {
		if n, err := admin.RetryDeliveries(ctx, view, admin.DeliveryFilter{Subscription: name, States: []outbox.State{outbox.Dead}}); err != nil || n == 0 {
			t.Errorf("%s: %d were retried, %v", name, n, err)
		}
		if err := errors.Join(admin.Pause(ctx, view, name), admin.Resume(ctx, view, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := admin.Rewind(ctx, view, "batch", outbox.FromBeginning); err != nil {
		t.Error(err)
	}
	publishIn(200, 300)
	eventually(t, 20*time.Second, "all is handled, and the log is empty again", func() bool {
		s, err := admin.GetStatus(ctx, view)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range s.Subscriptions {
			if one.Lag.Events > 0 || one.Deliveries[outbox.Dead]+one.Deliveries[outbox.Retrying]+one.Deliveries[outbox.Running] > 0 {
				return false
			}
		}
		return s.Log.OldestAt == nil
	})
	if err := admin.DeleteSubscription(ctx, view, "batch", true); err != nil {
		t.Error(err)
	}
	text := strings.ReplaceAll(sent.String(), theirs, "")
	if found := regexp.MustCompile(`.{0,80}(?:\boutbox\.[a-z_]|\bnew_signals\b|\b744692[56]\b|signalbox_outbox).{0,80}`).FindString(text); found != "" {
		t.Errorf("a statement is about the default outbox: %q", found)
	}
	if n := strings.Count(text, `"billing".`); n < 50 {
		t.Errorf("%d statements were seen", n)
	}
	if !bytes.Contains([]byte(sent.String()), []byte(theirs)) {
		t.Error("the handlers' statement was not seen")
	}
}

// TestTwoOutboxes puts load on two outboxes of one database. One of them is migrated, paused, resumed, rewound, robbed of a worker and
// dropped meanwhile: the other delivers each of its events, once, in the order of its key, and hears of nothing.
func TestTwoOutboxes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t) // with the default outbox
	ctx := t.Context()
	var (
		kept       = newLedger()
		others     atomic.Int64
		crossed    atomic.Pointer[string]
		ended      = make(chan struct{})
		publishing sync.WaitGroup
		published  int
	)
	cross := func(what string) { crossed.CompareAndSwap(nil, &what) }
	s := worker.Subscription{Name: "same", Topics: everything}
	start(t, db.Pool, worker.Config{Name: "default"}, s, func(_ context.Context, e *worker.Event[payload]) error {
		if e.Payload.N < 0 {
			cross(fmt.Sprintf("the default outbox delivers event %d of the other", e.ID))
		}
		kept.add(e)
		return nil
	})
	publishing.Go(func() {
		for {
			select {
			case <-ended:
				return
			default:
			}
			publish(t, db.Pool, "k", published, published+3)
			published += 3
			time.Sleep(time.Millisecond) // both have load, and neither is starved
		}
	})
	for round := range 3 {
		billing := in(t, db, "billing")
		view := billing.DB(db.Pool)
		crew := func(name string) func() {
			return start(t, db.Pool, worker.Config{Name: name, Outbox: billing, PollInterval: 50 * time.Millisecond}, s, func(_ context.Context, e *worker.Event[payload]) error {
				if e.Payload.N >= 0 {
					cross(fmt.Sprintf("the other outbox delivers event %d of the default", e.ID))
				}
				others.Add(1)
				return nil
			})
		}
		stop, stopped := crew("one"), crew("two")
		publishTo := func(n int) {
			for range n {
				e, err := outbox.NewEvent("test.happened", "k", payload{-1})
				if err == nil {
					_, err = billing.Publish(ctx, db.Pool, e)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		reach := func(n int64) {
			t.Helper()
			eventually(t, 20*time.Second, fmt.Sprintf("round %d: the other outbox has delivered %d", round, n), func() bool { return others.Load() >= n })
		}
		others.Store(0)
		publishTo(100)
		reach(100)
		if err := admin.Pause(ctx, view, "same"); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "it is paused", func() bool {
			rows, err := admin.ListLanes(ctx, view, "same")
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range rows {
				if row.Owner != "" {
					return false
				}
			}
			return true
		})
		before := others.Load()
		publishTo(10)
		at := len(kept.all())
		kept.waitFor(t, at+20) // time goes by
		if others.Load() != before {
			t.Error("a paused subscription is served")
		}
		if err := admin.Resume(ctx, view, "same"); err != nil {
			t.Fatal(err)
		}
		reach(before + 10)
		if _, err := admin.Rewind(ctx, view, "same", outbox.FromBeginning); err != nil {
			t.Fatal(err)
		}
		reach(before + 10 + 110)
		// The default outbox has a worker of the same id, whose sessions are not the other's to end.
		if _, err := db.Pool.Exec(ctx, `
			select pg_terminate_backend(a.pid) from pg_stat_activity a
			where a.datname = current_database() and a.application_name like 'signalbox worker % of billing: %'`); err != nil {
			t.Fatal(err)
		}
		publishTo(50)
		reach(before + 10 + 110 + 50)
		stop()
		stopped()
		if _, err := db.Pool.Exec(ctx, `drop schema billing cascade; drop table public.signalbox_billing_version`); err != nil {
			t.Fatal(err)
		}
	}
	close(ended)
	publishing.Wait()
	events := kept.waitFor(t, published)
	if what := crossed.Load(); what != nil {
		t.Error(*what)
	}
	if len(events) != published {
		t.Errorf("%d events were published, and %d handled", published, len(events))
	}
	for i, e := range events {
		if e.Payload.N != i {
			t.Fatalf("event %d of the key is %d", i, e.Payload.N)
		}
	}
	var ids int64 // it has neither lost its session nor been evicted
	if err := db.Pool.QueryRow(ctx, `select pg_sequence_last_value('outbox.workers_id_seq')`).Scan(&ids); err != nil || ids != 1 {
		t.Errorf("the default outbox's worker has joined %d times, %v", ids, err)
	}
}

// TestWakeUps listens on both channels: a publisher rings its own outbox's alone.
func TestWakeUps(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	billing := in(t, db, "billing")
	conn := db.Conn(t)
	for _, o := range []outbox.Outbox{{}, billing} {
		if _, err := conn.Exec(t.Context(), "listen "+o.Channel()); err != nil {
			t.Fatal(err)
		}
	}
	if (outbox.Outbox{}).Channel() != "new_signals" || billing.Channel() != "new_signals_billing" {
		t.Errorf("the channels are %s and %s", outbox.Outbox{}.Channel(), billing.Channel())
	}
	// The other's bell is held, as by a sentinel: so its publishers ring, and the default's do not.
	class := func(o string) string {
		var def string
		err := db.Pool.QueryRow(t.Context(), `select pg_get_triggerdef(t.oid) from pg_trigger t where t.tgname = 'doorbell' and t.tgrelid = ($1 || '.events')::regclass`, o).Scan(&def)
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(`shared\((\d+), 1\)`).FindStringSubmatch(def)[1]
	}
	if class("outbox") == class("billing") {
		t.Fatal("the outboxes share a lock")
	}
	holder := db.Conn(t)
	if _, err := holder.Exec(t.Context(), "select pg_advisory_lock("+class("billing")+", 1)"); err != nil {
		t.Fatal(err)
	}
	publish(t, db.Pool, "k", 0, 1)
	e, err := outbox.NewEvent("test.happened", "k", payload{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := billing.Publish(t.Context(), db.Pool, e); err != nil {
		t.Fatal(err)
	}
	waiting, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := conn.WaitForNotification(waiting)
	if err != nil || n.Channel != "new_signals_billing" {
		t.Errorf("the first notification is %v, %v", n, err)
	}
	// Nor does a worker ring, under load, when it joins and leaves, and for decisions.
	if _, err := holder.Exec(t.Context(), "select pg_advisory_unlock_all()"); err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	stop := start(t, db.Pool, worker.Config{Outbox: billing}, worker.Subscription{Name: "s", Topics: everything}, func(_ context.Context, e *worker.Event[payload]) error {
		l.add(e)
		if e.Payload.N == 7 {
			return worker.DeadLetter(errors.New("no"))
		}
		return nil
	})
	for n := range 50 {
		e, err := outbox.NewEvent("test.happened", "k", payload{n})
		if err == nil {
			_, err = billing.Publish(t.Context(), db.Pool, e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l.waitFor(t, 51)
	eventually(t, 20*time.Second, "the dead letter is retried", func() bool {
		n, err := admin.RetryDeliveries(t.Context(), billing.DB(db.Pool), admin.DeliveryFilter{Subscription: "s"})
		return err == nil && n == 1
	})
	l.waitFor(t, 52)
	stop()
	if _, err := db.Pool.Exec(t.Context(), "select pg_notify($1, 'the end')", outbox.Outbox{}.Channel()); err != nil {
		t.Fatal(err)
	}
	heard := 0
	for {
		n, err := conn.WaitForNotification(waiting)
		if err != nil {
			t.Fatal(err)
		}
		if n.Channel == (outbox.Outbox{}).Channel() {
			if n.Payload != "the end" {
				t.Errorf("the default outbox's workers hear %q", n.Payload)
			}
			break
		}
		heard++
	}
	if heard < 3 {
		t.Errorf("the other's workers hear %d notifications", heard)
	}
}

// TestTwentyOutboxes serves twenty in one database, each by a worker of one process.
func TestTwentyOutboxes(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	var ledgers [20]*ledger
	var boxes [20]outbox.Outbox
	for i := range boxes {
		boxes[i], ledgers[i] = in(t, db, fmt.Sprint("box", i)), newLedger()
		start(t, db.Pool, worker.Config{Outbox: boxes[i]}, worker.Subscription{Name: "all", Topics: everything}, func(_ context.Context, e *worker.Event[payload]) error {
			ledgers[i].add(e)
			return nil
		})
	}
	for n := range 10 {
		for i, o := range boxes {
			e, err := outbox.NewEvent("test.happened", "k", payload{i*100 + n})
			if err == nil {
				_, err = o.Publish(t.Context(), db.Pool, e)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, l := range ledgers {
		for n, e := range l.waitFor(t, 10) {
			if e.Payload.N != i*100+n {
				t.Errorf("outbox %d: event %d is %d", i, n, e.Payload.N)
			}
		}
	}
}
