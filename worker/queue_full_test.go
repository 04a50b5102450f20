package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// TestNotificationQueueFull fills the server's queue of notifications, as a session does that listens and does not end its transaction:
// a commit that notifies fails. Nothing of ours does: publishers commit, workers join and serve, deliveries are decided about; and the
// doorbell is back once the queue has room. PostgreSQL 17 is the first whose queue can be small: before, it is 8 GB.
func TestNotificationQueueFull(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := pgtest.Server(t)
	pool := migrated(t, server)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := pool.Exec(ctx, sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	var version int
	if err := pool.QueryRow(ctx, `select current_setting('server_version_num')::integer / 10000`).Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version < 17 {
		t.Skipf("the queue of notifications of PostgreSQL %d cannot be made small", version)
	}
	exec(`alter system set max_notify_queue_pages = 64`)
	pool.Close()
	if err := server.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	pool = migrated(t, server)

	l := newLedger()
	sub := worker.Subscription{Name: "s", Topics: everything, Retry: worker.Retry{MaxAttempts: 1}}
	start(t, pool, worker.Config{PollInterval: 6 * time.Second}, sub, func(_ context.Context, e *worker.Event[payload]) error {
		l.add(e)
		if e.Payload.N == 0 {
			return errors.New("no")
		}
		return nil
	})
	publish(t, pool, "", 0, 1)
	l.waitFor(t, 1)
	waitArmed(t, pool)

	holder := dial(t, server)
	for _, sql := range []string{"listen anything", "begin", "select 1"} {
		if _, err := holder.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	n := 1
	next := func() {
		t.Helper()
		publish(t, pool, "", n, n+1) // fails the test if its commit does
		n++
	}
	filler := strings.Repeat("x", 7000)
	full := false
	for i := 0; !full && i < 1000; i++ { // with an event between any two of others' notifications, whether the bell is armed or not
		_, err := pool.Exec(ctx, `select pg_notify('other', $1)`, fmt.Sprint(i, filler))
		if full = err != nil; full {
			if refused := new(pgconn.PgError); !errors.As(err, &refused) || !strings.Contains(refused.Message, "NOTIFY queue") {
				t.Fatal(err)
			}
		}
		next()
	}
	if !full {
		t.Fatal("the queue does not fill up")
	}
	eventually(t, 30*time.Second, "the worker has heard of it, and does not wait for notifications", func() bool {
		s, err := admin.GetStatus(ctx, pool)
		return err == nil && s.Doorbell == "polling"
	})
	begun := time.Now()
	for range 10 {
		next()
	}
	l.waitFor(t, n)
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("the events waited for the next poll: %v", took)
	}
	joined := newLedger()
	start(t, pool, worker.Config{}, worker.Subscription{Name: "joined", Topics: everything}, record(joined))
	joined.waitFor(t, n)
	if retried, err := admin.RetryDeliveries(ctx, pool, admin.DeliveryFilter{Subscription: "s"}); err != nil || retried != 1 {
		t.Errorf("retried %d, %v", retried, err)
	}
	l.waitFor(t, n+1)

	if _, err := holder.Exec(ctx, "rollback"); err != nil {
		t.Fatal(err)
	}
	waitArmed(t, pool)
	listener := dial(t, server)
	if _, err := listener.Exec(ctx, "listen "+outbox.Outbox{}.Channel()); err != nil {
		t.Fatal(err)
	}
	next()
	awaitRing(t, listener)
}

// dial returns a connection of its own, closed when the test ends.
func dial(t *testing.T, server *embeddedpg.Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// awaitRing waits for a notification.
func awaitRing(t *testing.T, listener *pgx.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := listener.WaitForNotification(ctx); err != nil {
		t.Errorf("nothing rings: %v", err)
	}
}
