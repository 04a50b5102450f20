package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// TestNotificationsStuck has a worker serve while the server's queue of notifications is said to be stuck: nothing notifies, also not in
// administration, and the sentinel polls, so that events do not wait for the next poll of their worker.
func TestNotificationsStuck(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	stuck := func(is string) {
		t.Helper()
		if _, err := db.Pool.Exec(ctx, `create or replace function outbox.notifications_stuck() returns boolean language sql as 'select `+is+`'`); err != nil {
			t.Fatal(err)
		}
	}
	listener := db.Conn(t)
	if _, err := listener.Exec(ctx, "listen "+outbox.Outbox{}.Channel()); err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	start(t, db.Pool, worker.Config{PollInterval: 3 * time.Second}, worker.Subscription{Name: "s", Topics: everything}, record(l))
	waitArmed(t, db.Pool)
	stuck("true")
	eventually(t, 30*time.Second, "the bell is not armed", func() bool {
		var armed bool
		if err := db.Pool.QueryRow(ctx, `
			select exists (select from pg_locks l where l.locktype = 'advisory' and l.classid = 7446925 and l.objid = 1 and l.mode = 'ExclusiveLock' and l.granted
			               and l.database = (select oid from pg_database where datname = current_database()))`).Scan(&armed); err != nil {
			t.Fatal(err)
		}
		return !armed
	})
	if _, err := listener.Exec(ctx, "select"); err != nil { // what was sent before
		t.Fatal(err)
	}
	drain := func() (n int) {
		for {
			expired, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
			_, err := listener.WaitForNotification(expired)
			cancel()
			if err != nil {
				return n
			}
			n++
		}
	}
	drain()
	n := 0
	for tries := 1; ; tries++ {
		begun := time.Now()
		publish(t, db.Pool, "", n, n+10)
		n += 10
		l.waitFor(t, n)
		took := time.Since(begun)
		if tries > 1 && took < 2*time.Second { // the first may come just before a poll, the next ones come just after it
			break
		}
		if tries == 4 { // else the machine was busy
			t.Errorf("the events waited for the next poll: %v", took)
			break
		}
	}
	if sent := drain(); sent != 0 {
		t.Errorf("%d notifications were sent", sent)
	}
	stuck("false")
	waitArmed(t, db.Pool)
	publish(t, db.Pool, "", n, n+1)
	l.waitFor(t, n+1)
	eventually(t, patience, "it rings", func() bool { return drain() > 0 })
}
