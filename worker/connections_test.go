package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestConstantConnections counts the connections of a worker that serves: they are as many with one subscription as with forty.
func TestConstantConnections(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 10, 40, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			handled := serveTopics(t, db, "w", n)
			publishTopics(t, db, n, 2)
			eventually(t, 60*time.Second, "all is handled", func() bool { return handled.Load() >= int64(2*n) })
			waitArmed(t, db.Pool)
			var got []string
			eventually(t, 30*time.Second, "there are the three that it serves with, and two of the sentinel", func() bool {
				err := db.Pool.QueryRow(t.Context(), `
					select array_agg(a.application_name order by a.application_name) from pg_stat_activity a
					where a.datname = current_database() and a.application_name like 'signalbox%'`).Scan(&got)
				return err == nil && len(got) == 5
			})
			t.Log(got)
		})
	}
}

// serveTopics serves n subscriptions, with a topic each, until the test ends, and returns how many events they have handled.
func serveTopics(t *testing.T, db *pgtest.DB, name string, n int) *atomic.Int64 {
	t.Helper()
	handled := &atomic.Int64{}
	w, err := worker.New(db.Pool, worker.Config{Name: name, Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := worker.Handle(w, topicOf(i), func(context.Context, *worker.Event[payload]) error {
			handled.Add(1)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	runUntilStopped(t, w)
	eventually(t, 60*time.Second, "it serves", func() bool { return w.Ready() == nil })
	return handled
}

// topicOf is the subscription to the topic of a number.
func topicOf(i int) worker.Subscription {
	return worker.Subscription{Name: fmt.Sprint("s", i), Topics: []string{fmt.Sprintf("topic.t%d", i)}}
}

// publishTopics publishes rounds events of each topic, each in a transaction of its own.
func publishTopics(t *testing.T, db *pgtest.DB, n, rounds int) {
	t.Helper()
	for i := range n * rounds {
		if _, err := db.Pool.Exec(t.Context(), `insert into outbox.events (topic, payload) values ($1, '{"n": 0}')`, fmt.Sprintf("topic.t%d", i%n)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLockedDeliveries keeps a transaction open in which an operator has locked the deliveries of one of several subscriptions: that
// one waits, for as long as it takes, and the others go on, also after the worker's session was lost. Whatever its form, it goes on when the transaction ends.
func TestLockedDeliveries(t *testing.T) {
	t.Parallel()
	const others = 39
	for _, form := range []string{"each", "tx"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			var log lines
			w, err := worker.New(db.Pool, worker.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			var fail atomic.Bool
			fail.Store(true)
			stuck := newLedger()
			s := worker.Subscription{Name: "stuck", Topics: everything, Retry: worker.Retry{InitialInterval: 100 * time.Millisecond, MaxInterval: 100 * time.Millisecond}, BreakerAfter: worker.Unlimited}
			handle := func(e *worker.Event[payload]) error {
				if fail.Load() {
					return errors.New("not yet")
				}
				stuck.add(e)
				return nil
			}
			if form == "tx" {
				err = worker.HandleTx(w, s, func(_ context.Context, _ pgx.Tx, e *worker.Event[payload]) error { return handle(e) })
			} else {
				err = worker.Handle(w, s, func(_ context.Context, e *worker.Event[payload]) error { return handle(e) })
			}
			if err != nil {
				t.Fatal(err)
			}
			var ledgers [others]*ledger
			for i := range ledgers {
				ledgers[i] = newLedger()
				if err := worker.Handle(w, worker.Subscription{Name: fmt.Sprint("other", i), Topics: everything}, record(ledgers[i])); err != nil {
					t.Fatal(err)
				}
			}
			runUntilStopped(t, w)
			publish(t, db.Pool, "k", 0, 1)
			operator := db.Conn(t)
			eventually(t, 20*time.Second, "there is a delivery to lock", func() bool {
				tx, err := operator.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				tag, err := tx.Exec(t.Context(), `select from outbox.deliveries d where d.state = 'running' for update`)
				if err == nil && tag.RowsAffected() == 1 {
					return true // and leaves it open
				}
				_ = tx.Rollback(t.Context())
				return false
			})
			fail.Store(false)
			eventually(t, 20*time.Second, "it waits", func() bool {
				checkPatience(t, db)
				return log.has("waits for a transaction of another session")
			})
			for n := 1; n < 100; n++ {
				publish(t, db.Pool, "k", n, n+1)
				eventually(t, 20*time.Second, "the others handle it", func() bool {
					behind := slices.ContainsFunc(ledgers[:], func(l *ledger) bool { return len(l.all()) <= n })
					if behind {
						checkPatience(t, db)
					}
					return !behind
				})
			}
			if log.has("will join again") {
				t.Errorf("a session ended:\n%s", log.String())
			}
			if _, err := db.Pool.Exec(t.Context(), `
				select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'signalbox worker%'`); err != nil {
				t.Fatal(err)
			}
			publish(t, db.Pool, "k", 100, 101)
			eventually(t, 20*time.Second, "the others go on after the session was lost", func() bool {
				return !slices.ContainsFunc(ledgers[:], func(l *ledger) bool { return !l.has(100) })
			})
			if _, err := operator.Exec(t.Context(), "rollback"); err != nil {
				t.Fatal(err)
			}
			eventually(t, 20*time.Second, "it goes on", func() bool {
				checkPatience(t, db)
				return stuck.has(100)
			})
			n := 0
			for _, e := range stuck.all() {
				if e.Payload.N > n {
					t.Errorf("event %d of the key was handled before %d", e.Payload.N, n)
				}
				n = max(n, e.Payload.N+1)
			}
		})
	}
}

// has reports whether event n was handled.
func (l *ledger) has(n int) bool {
	return slices.ContainsFunc(l.all(), func(e worker.Event[payload]) bool { return e.Payload.N == n })
}

// checkPatience ends the test if a connection that all subscriptions of a worker share waits for a lock for long.
func checkPatience(t *testing.T, db *pgtest.DB) {
	t.Helper()
	var waits bool
	err := db.Pool.QueryRow(t.Context(), `
		select exists (select from pg_stat_activity a
		               where a.datname = current_database() and a.application_name ~ '^signalbox worker.*: (read|write)$'
		                 and a.wait_event_type = 'Lock' and clock_timestamp() - a.query_start > '5s')`).Scan(&waits)
	if err != nil {
		t.Fatal(err)
	}
	if waits {
		t.Fatal("all subscriptions wait for what is locked of one")
	}
}

// TestPriceOfOne counts round trips to the server while events come one by one: with forty subscriptions that have a topic each, an event
// costs about as many to read and to settle as with one.
func TestPriceOfOne(t *testing.T) {
	t.Parallel()
	const rounds = 200
	perEvent := func(n int) float64 {
		db := pgtest.New(t)
		var trips atomic.Int64
		pool := counted(t, db, &trips, "signalbox worker: read", "signalbox worker: write")
		handled := serveTopics(t, &pgtest.DB{Pool: pool}, "w", n)
		publishTopics(t, db, n, 1)
		eventually(t, 60*time.Second, "all have read", func() bool { return handled.Load() >= int64(n) })
		waitArmed(t, db.Pool)
		before := trips.Load()
		for i := range rounds {
			if _, err := db.Pool.Exec(t.Context(), `insert into outbox.events (topic, payload) values ($1, '{"n": 0}')`, fmt.Sprintf("topic.t%d", i%n)); err != nil {
				t.Fatal(err)
			}
			eventually(t, 20*time.Second, "it is handled", func() bool { return handled.Load() >= int64(n+i+1) })
		}
		return float64(trips.Load()-before) / rounds
	}
	one, forty := perEvent(1), perEvent(40)
	t.Logf("round trips for an event: %.2f with one subscription, %.2f with forty", one, forty)
	if forty > 1.3*one {
		t.Errorf("there are %.2f round trips for an event with forty subscriptions, and %.2f with one", forty, one)
	}
}

// counted returns a pool whose configuration counts what workers send at once, over connections of these names.
func counted(t *testing.T, db *pgtest.DB, trips *atomic.Int64, names ...string) *pgxpool.Pool {
	t.Helper()
	config := db.Pool.Config()
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &countedConn{Conn: conn, trips: trips, names: names}, nil
	}
	return openPool(t, config)
}

type countedConn struct {
	net.Conn
	trips  *atomic.Int64
	names  []string
	counts bool
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.counts = c.counts || slices.ContainsFunc(c.names, func(name string) bool { return bytes.Contains(b, []byte(name)) }) // as it connects
	if c.counts {
		c.trips.Add(1)
	}
	return c.Conn.Write(b)
}
