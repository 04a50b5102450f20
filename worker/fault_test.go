package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// A publisherLedger knows which events of its keys were committed, may have been, or were not.
type publisherLedger struct {
	mu        sync.Mutex
	committed map[string]map[int]bool
	unknown   map[string]map[int]bool // the connection broke during the commit
}

// publishLoad publishes one event a transaction, each key's numbered upwards, until stop is closed. Now and then it rolls back
// or is slow. It reconnects as often as it must.
func publishLoad(url string, publishers int, pause time.Duration, stop <-chan struct{}) (*publisherLedger, *sync.WaitGroup) {
	l := &publisherLedger{committed: map[string]map[int]bool{}, unknown: map[string]map[int]bool{}}
	var running sync.WaitGroup
	for p := range publishers {
		key := fmt.Sprint("key-", p)
		l.committed[key], l.unknown[key] = map[int]bool{}, map[int]bool{}
		running.Go(func() {
			ctx := context.Background()
			var conn *pgx.Conn
			defer func() {
				if conn != nil {
					_ = conn.Close(ctx)
				}
			}()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(pause):
				}
				if conn == nil || conn.IsClosed() {
					var err error
					if conn, err = pgx.Connect(ctx, url); err != nil {
						conn = nil
						continue
					}
				}
				committed, err := publishOne(ctx, conn, key, n)
				l.mu.Lock()
				switch {
				case err == nil && committed:
					l.committed[key][n] = true
				case err != nil && committed: // asked for, and no answer
					l.unknown[key][n] = true
				}
				l.mu.Unlock()
				if err != nil {
					_ = conn.Close(ctx)
				}
			}
		})
	}
	return l, &running
}

// publishOne reports whether a commit was asked for, and what went wrong.
func publishOne(ctx context.Context, conn *pgx.Conn, key string, n int) (committed bool, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // a no-op after the commit
	e, err := outbox.NewEvent("test.happened", key, payload{n})
	if err != nil {
		return false, err
	}
	if _, err := outbox.Publish(ctx, tx, e); err != nil {
		return false, err
	}
	if rand.N(20) == 0 {
		time.Sleep(rand.N(20 * time.Millisecond)) // a slow transaction
	}
	if rand.N(20) == 0 {
		return false, tx.Rollback(ctx)
	}
	return true, tx.Commit(ctx)
}

// verify checks what one subscription was delivered against the ledger and returns the number of duplicates.
// Order is that of the first deliveries of a key's events, within each process.
func (l *publisherLedger) verify(t *testing.T, processes ...*process) (duplicates int) {
	t.Helper()
	type id struct {
		key string
		n   int
	}
	seen := map[id]int{}
	for _, p := range processes {
		for _, line := range p.handled() {
			seen[id{line.Key, line.N}]++
			if !l.committed[line.Key][line.N] && !l.unknown[line.Key][line.N] {
				t.Errorf("%s was handled and never committed", line.Key)
			}
		}
	}
	total, lost := 0, 0
	for key, numbers := range l.committed {
		for n := range numbers {
			total++
			times := seen[id{key, n}]
			if times == 0 {
				lost++
			} else {
				duplicates += times - 1
			}
		}
	}
	t.Logf("%d committed, %d lost, %d duplicates", total, lost, duplicates)
	if lost > 0 || total == 0 {
		t.Errorf("%d of %d committed events are lost", lost, total)
	}
	return duplicates
}

func (l *publisherLedger) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, numbers := range l.committed {
		n += len(numbers)
	}
	return n
}

// checkOrder checks that the first deliveries of a key come in order, and that a repeat never comes after something newer
// had been handled by another process for good: within a process, a key's numbers only ever go back to repeat a
// window.
func checkOrder(t *testing.T, p *process) {
	t.Helper()
	if p.rejoined() {
		t.Logf("%s lost its session on the way: it may have handled some events again", p.name)
		return
	}
	highest := map[string]int{}
	for _, line := range p.handled() {
		if last, ok := highest[line.Key]; ok && line.N < last {
			t.Errorf("%s: %s came with %d after %d", p.name, line.Key, line.N, last)
		}
		highest[line.Key] = line.N
	}
}

// settledAll reports whether a subscription has nothing left to do.
func settledAll(t *testing.T, db outbox.DB) bool {
	t.Helper()
	s, err := admin.GetStatus(context.Background(), db)
	if err != nil {
		return false // the server is restarting
	}
	for _, sub := range s.Subscriptions {
		if sub.Lag.Events > 0 || sub.Deliveries["retrying"]+sub.Deliveries[admin.Blocked]+sub.Deliveries["running"] > 0 {
			return false
		}
	}
	return len(s.Subscriptions) > 0
}

// TestKilledInWindow kills a worker in the middle of a window. What it was handling comes again, and so does the rest of it.
func TestKilledInWindow(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const all = 50
	cfg := processConfig{URL: db.URL, Subscription: "s", Name: "first", Stuck: 1, ParkAfter: time.Hour}
	publish(t, db.Pool, "", 0, all)
	first := spawn(t, cfg)
	eventually(t, 30*time.Second, "all are handled but the stuck one", func() bool { return len(first.handled()) == all })
	first.Signal(syscall.SIGKILL)
	<-first.Ended()
	cfg.Name, cfg.Stuck = "second", 0
	second := spawn(t, cfg)
	eventually(t, 30*time.Second, "the window comes again", func() bool { return len(second.handled()) == all })
}

// TestKillRepeatsWhatRan kills a worker of which some handlers take long while others were done with and settled. Its successor
// gets the former again and none of the latter, and no transaction was open for long.
func TestKillRepeatsWhatRan(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const stuck, all = 8, 300
	cfg := processConfig{URL: db.URL, Subscription: "s", Name: "first", Stuck: stuck, Attempts: 20}
	first := spawn(t, cfg)
	publish(t, db.Pool, "", 0, all)
	settled := func() bool {
		list := rows(t, db)
		return settledLag(t, db.Pool) && len(list) == stuck && len(first.handled()) == all
	}
	eventually(t, 30*time.Second, "all but the stuck ones are settled", settled)
	begun, oldest := time.Now(), time.Duration(0)
	for open := true; open; time.Sleep(20 * time.Millisecond) { // a busy machine takes its time for a short one
		err := db.Pool.QueryRow(t.Context(), `
			select coalesce(max(clock_timestamp() - a.xact_start), '0') from pg_stat_activity a
			where a.datname = current_database() and a.pid <> pg_backend_pid() and a.backend_type = 'client backend'`).Scan(&oldest)
		if err != nil {
			t.Fatal(err)
		}
		if open = oldest > time.Second; open && time.Since(begun) > 10*time.Second { // the handlers go on for 30 s
			t.Fatalf("a transaction is open for %v", oldest)
		}
	}
	first.Signal(syscall.SIGKILL)
	<-first.Ended()
	cfg.Name = "second"
	second := spawn(t, cfg)
	eventually(t, 60*time.Second, "the stuck ones run again, each once the one before is parked", func() bool { return len(second.handled()) == stuck })
	for _, l := range second.handled() {
		if l.N >= stuck {
			t.Errorf("event %d is repeated, and was settled", l.N)
		}
	}
}

// settledLag reports whether every event has been read and recorded, delivered or not.
func settledLag(t *testing.T, db outbox.DB) bool {
	t.Helper()
	s, err := admin.GetStatus(context.Background(), db)
	return err == nil && len(s.Subscriptions) > 0 &&
		!slices.ContainsFunc(s.Subscriptions, func(s admin.SubscriptionStatus) bool { return s.Lag.Events > 0 })
}

func owners(t *testing.T, db outbox.DB) (lanes map[string]int, sentinel string) {
	t.Helper()
	s, err := admin.GetStatus(context.Background(), db)
	if err != nil || len(s.Subscriptions) == 0 {
		return nil, ""
	}
	lanes = map[string]int{"": s.Subscriptions[0].Lanes[0]}
	for _, w := range s.Workers {
		if w.Sentinel {
			sentinel = w.Name
		}
		lanes[w.Name] += s.Subscriptions[0].Lanes[w.ID]
	}
	return lanes, sentinel
}

// TestProcesses runs three subscriptions of two processes each against many publishers, without any fault: each gets every
// committed event exactly once, in the order of its key.
func TestProcesses(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	subscriptions := map[string][]*process{}
	for _, s := range []string{"a", "b", "c"} {
		for _, n := range []string{"1", "2"} {
			subscriptions[s] = append(subscriptions[s], spawn(t, processConfig{URL: db.URL, Subscription: s, Name: s + n}))
		}
	}
	stop := make(chan struct{})
	ledger, running := publishLoad(db.URL, 16, time.Millisecond, stop)
	eventually(t, 60*time.Second, "everybody handles events", func() bool {
		for _, processes := range subscriptions {
			for _, p := range processes {
				if len(p.handled()) < 300 {
					return false
				}
			}
		}
		return true
	})
	close(stop)
	running.Wait()
	eventually(t, 30*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	for _, processes := range subscriptions {
		for _, p := range processes {
			p.stop(t)
			checkOrder(t, p)
		}
		if duplicates := ledger.verify(t, processes...); duplicates > 0 && !slices.ContainsFunc(processes, (*process).rejoined) {
			t.Errorf("%d duplicates without a fault", duplicates)
		}
	}
}

// TestKilledWorker kills one of two workers under load with SIGKILL, the sentinel and the other one.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	for _, victim := range []string{"sentinel", "other"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			first := spawn(t, processConfig{URL: db.URL, Subscription: "s", Name: "first"})
			eventually(t, 20*time.Second, "the first is the sentinel", func() bool { _, s := owners(t, db.Pool); return s == "first" })
			second := spawn(t, processConfig{URL: db.URL, Subscription: "s", Name: "second"})
			eventually(t, 20*time.Second, "both have half of the lanes", func() bool {
				lanes, _ := owners(t, db.Pool)
				return lanes["first"] == 32 && lanes["second"] == 32
			})
			stop := make(chan struct{})
			ledger, running := publishLoad(db.URL, 8, 2*time.Millisecond, stop)
			eventually(t, 20*time.Second, "both handle events", func() bool { return len(first.handled()) > 200 && len(second.handled()) > 200 })

			killed, survivor := first, second
			if victim == "other" {
				killed, survivor = second, first
			}
			killed.Signal(syscall.SIGKILL)
			took := eventually(t, 20*time.Second, "the survivor has all lanes", func() bool {
				lanes, _ := owners(t, db.Pool)
				return lanes[survivor.name] == engine.Lanes
			})
			t.Logf("lanes were taken over within %v", took)
			before := ledger.total()
			eventually(t, 20*time.Second, "more is published", func() bool { return ledger.total() > before+200 })
			close(stop)
			running.Wait()
			eventually(t, 20*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
			survivor.stop(t)
			ledger.verify(t, killed, survivor)
			checkOrder(t, killed)
			checkOrder(t, survivor)
		})
	}
}

// TestStoppedWorker stops a worker with SIGSTOP for longer than its lease. Awake again, it settles nothing of what it had
// begun, and joins anew.
func TestStoppedWorker(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const lease = 4 * time.Second
	first := spawn(t, processConfig{URL: db.URL, Subscription: "s", Name: "first", Lease: lease})
	eventually(t, 20*time.Second, "the first is the sentinel", func() bool { _, s := owners(t, db.Pool); return s == "first" })
	second := spawn(t, processConfig{URL: db.URL, Subscription: "s", Name: "second", Lease: lease})
	eventually(t, 20*time.Second, "both have half of the lanes", func() bool {
		lanes, _ := owners(t, db.Pool)
		return lanes["first"] == 32 && lanes["second"] == 32
	})
	stop := make(chan struct{})
	ledger, running := publishLoad(db.URL, 8, 2*time.Millisecond, stop)
	eventually(t, 20*time.Second, "both handle events", func() bool { return len(first.handled()) > 200 && len(second.handled()) > 200 })
	first.Signal(syscall.SIGSTOP)
	eventually(t, 4*lease, "the other has all lanes and is the sentinel", func() bool {
		lanes, sentinel := owners(t, db.Pool)
		return lanes["second"] == engine.Lanes && sentinel == "second"
	})
	before := ledger.total()
	eventually(t, 20*time.Second, "more is published", func() bool { return ledger.total() > before+200 })
	first.Signal(syscall.SIGCONT)
	eventually(t, 20*time.Second, "it is back", func() bool {
		lanes, _ := owners(t, db.Pool)
		return lanes["first"] == 32 && lanes["second"] == 32
	})
	close(stop)
	running.Wait()
	eventually(t, 20*time.Second, "all is settled", func() bool { return settledAll(t, db.Pool) })
	first.stop(t)
	second.stop(t)
	ledger.verify(t, first, second)
}

// TestServerKilled kills PostgreSQL with SIGKILL under load, again and again, and terminates all its backends in
// between. Workers come back by themselves.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	url := server.URL("postgres")
	pool := migrated(t, server)
	first := spawn(t, processConfig{URL: url, Subscription: "s", Name: "first"})
	second := spawn(t, processConfig{URL: url, Subscription: "s", Name: "second"})
	stop := make(chan struct{})
	ledger, running := publishLoad(url, 8, 2*time.Millisecond, stop)
	grow := func() {
		n := len(first.handled()) + len(second.handled())
		eventually(t, 40*time.Second, "events are handled", func() bool { return len(first.handled())+len(second.handled()) > n+300 })
	}
	for range 3 {
		grow()
		if err := syscall.Kill(server.Pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		grow()
		terminateAll(t, pool)
	}
	grow()
	close(stop)
	running.Wait()
	eventually(t, 40*time.Second, "all is settled", func() bool { return settledAll(t, pool) })
	first.stop(t)
	second.stop(t)
	ledger.verify(t, first, second)
}

func migrated(t *testing.T, server *embeddedpg.Server) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := pool.AcquireFunc(t.Context(), func(c *pgxpool.Conn) error { return apply.Up(t.Context(), c.Conn(), migrations.Outbox) }); err != nil {
		t.Fatal(err)
	}
	return pool
}

// terminateAll ends every other connection to the database.
func terminateAll(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	eventually(t, 20*time.Second, "the server answers", func() bool {
		_, err := pool.Exec(t.Context(), `
			select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`)
		var pgErr *pgconn.PgError
		return err == nil || errors.As(err, &pgErr) && pgErr.Code == pgTerminated
	})
}

const pgTerminated = "57P01"

// TestConnectionLost ends one of the worker's connections while it is idle and the doorbell is armed. Whichever it is, the
// worker joins anew, and the next event arrives.
func TestConnectionLost(t *testing.T) {
	t.Parallel()
	for _, purpose := range []string{"control", "read", "write", "bell", "probe"} {
		t.Run(purpose, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			l := newLedger()
			start(t, db.Pool, worker.Config{}, worker.Subscription{Name: "s", Topics: everything}, record(l))
			waitArmed(t, db.Pool)
			tag, err := db.Pool.Exec(t.Context(), `
				select pg_terminate_backend(pid) from pg_stat_activity
				where datname = current_database() and application_name ~ ('^signalbox worker.*: ' || $1 || '$')`, purpose)
			if err != nil || tag.RowsAffected() != 1 {
				t.Fatalf("ended %d connections, %v", tag.RowsAffected(), err)
			}
			publish(t, db.Pool, "", 0, 1)
			l.waitFor(t, 1)
			waitArmed(t, db.Pool) // it is whole again
			publish(t, db.Pool, "", 1, 2)
			l.waitFor(t, 2)
			if status, err := admin.GetStatus(t.Context(), db.Pool); err != nil || len(status.Workers) != 1 {
				t.Errorf("there are %d workers, %v", len(status.Workers), err)
			}
		})
	}
}
