package engine_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/enginetest"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestArmGivesUpWhole ends the transaction that arming waits for at about the moment when it gives up. PostgreSQL may grant the
// lock to a statement that fails for having waited too long: it must not be kept, or publishers notify for ever.
func TestArmGivesUpWhole(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, ">")
	lock := db.Conn(t)
	bell, err := engine.NewBell(ctx, lock, db.Conn(t), s)
	if err != nil {
		t.Fatal(err)
	}
	publisher := db.Conn(t)
	const patience = 5 * time.Millisecond
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		tx, err := publisher.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		enginetest.Publish(t, tx, "")
		ended := make(chan error, 1)
		go func() {
			time.Sleep(patience - 200*time.Microsecond + rand.N(time.Millisecond)) // what is timed is the fault itself
			ended <- tx.Rollback(ctx)
		}()
		armed, err := bell.Arm(ctx, patience)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		var held bool
		err = publisher.QueryRow(ctx, `
			select exists (select from pg_locks l where l.locktype = 'advisory' and l.mode = 'ExclusiveLock' and l.granted and l.pid = $1)`,
			lock.PgConn().PID()).Scan(&held)
		if err != nil || held != armed {
			t.Fatalf("the lock is held: %v, and arming said %v (%v)", held, armed, err)
		}
		if armed {
			if err := bell.Disarm(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestBell checks the three states in which a publisher can find the bell, and what a probe finds of what they left.
func TestBell(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := enginetest.Subscribe(t, db, ">")
	bell, err := engine.NewBell(ctx, db.Conn(t), db.Conn(t), s)
	if err != nil {
		t.Fatal(err)
	}
	listener := db.Conn(t)
	if _, err := listener.Exec(ctx, "listen "+outbox.Outbox{}.Channel()); err != nil {
		t.Fatal(err)
	}
	heard := func(want int) {
		t.Helper()
		if _, err := listener.Exec(ctx, "select"); err != nil { // whatever was sent is delivered before the answer
			t.Fatal(err)
		}
		n := 0
		for {
			expired, cancel := context.WithTimeout(ctx, time.Millisecond)
			_, err := listener.WaitForNotification(expired)
			cancel()
			if err != nil {
				break
			}
			n++
		}
		if n != want {
			t.Fatalf("heard %d notifications, want %d", n, want)
		}
	}
	probe := func(want int) engine.Ring {
		t.Helper()
		ring, publishers, err := bell.Probe(ctx)
		if err != nil || publishers != want {
			t.Fatalf("the probe found %d publishers, %v; want %d", publishers, err, want)
		}
		return ring
	}

	// Not armed: nobody rings, the probe finds it and rings for its lane, once.
	enginetest.Publish(t, db.Pool, "k")
	heard(0)
	if ring := probe(1); ring.Lanes == 0 || ring.Lanes&(ring.Lanes-1) != 0 {
		t.Errorf("rang for lanes %b, want one", ring.Lanes)
	}
	heard(1)
	probe(0)
	heard(0)

	// A slow publisher shares the lock: arming waits for it, and those that come meanwhile ring.
	slow := db.Conn(t)
	tx, err := slow.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	enginetest.Publish(t, tx, "slow")
	if armed, err := bell.Arm(ctx, 50*time.Millisecond); err != nil || armed {
		t.Fatalf("armed: %v, %v; a publisher that has not rung is still running", armed, err)
	}
	arming := make(chan bool, 1)
	go func() {
		armed, err := bell.Arm(context.Background(), time.Minute)
		arming <- armed && err == nil
	}()
	for waiting := false; !waiting; {
		err := db.Pool.QueryRow(ctx, `select exists (select from pg_locks where locktype = 'advisory' and not granted and
			database = (select oid from pg_database where datname = current_database()))`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
	}
	enginetest.Publish(t, db.Pool, "k")
	heard(1)
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if !<-arming {
		t.Fatal("not armed")
	}
	heard(0)
	probe(2) // the slow one among them
	heard(1)

	// Armed: everybody rings, also at repeatable read with an old snapshot. A rollback does not.
	enginetest.Publish(t, db.Pool, "k")
	heard(1)
	old := db.Conn(t)
	if _, err := old.Exec(ctx, "begin isolation level repeatable read; select count(*) from outbox.events"); err != nil {
		t.Fatal(err)
	}
	enginetest.Publish(t, old, "k")
	heard(0)
	if _, err := old.Exec(ctx, "commit"); err != nil {
		t.Fatal(err)
	}
	heard(1)
	if _, err := old.Exec(ctx, "begin; insert into outbox.events (topic, payload) values ('a', '1'); rollback"); err != nil {
		t.Fatal(err)
	}
	heard(0)

	// Disarmed: what comes next is the probe's to find, and what rang is not.
	if err := bell.Disarm(ctx); err != nil {
		t.Fatal(err)
	}
	enginetest.Publish(t, db.Pool, "k")
	heard(0)
	probe(1)

	// More than a probe looks at rings for every lane.
	if _, err := db.Pool.Exec(ctx, `insert into outbox.events (topic, key, payload) select 'a', 'k', '1' from generate_series(1, 5000)`); err != nil {
		t.Fatal(err)
	}
	if ring := probe(1); ring.Lanes != ^uint64(0) {
		t.Errorf("rang for lanes %b, want all", ring.Lanes)
	}
}
