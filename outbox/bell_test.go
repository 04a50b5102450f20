package outbox_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestArmGivesUpWhole ends the transaction that arming waits for at about the moment when it gives up. PostgreSQL may grant the
// lock to a statement that fails for having waited too long: it must not be kept, or publishers notify for ever.
func TestArmGivesUpWhole(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	s := subscribe(t, db, ">")
	lock := db.Conn(t)
	bell, err := outbox.NewBell(ctx, lock, db.Conn(t), s)
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
		publishOne(t, tx, "")
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
