package moves_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// A payload is what events of the tests have.
type payload struct {
	N int `json:"n"`
}

// A ledger has what handlers did, outside of any database.
type ledger struct {
	healed atomic.Bool // whether keys that fail do not any more

	mu      sync.Mutex
	handled []worker.Event[payload] // with success
}

// handle is a handler whose events of some keys fail.
func (l *ledger) handle(_ context.Context, e *worker.Event[payload]) error {
	switch {
	case strings.HasPrefix(e.Key, "dead"):
		return worker.DeadLetter(errors.New("never"))
	case !l.healed.Load() && (e.Key == "fails" || e.Key == "held"):
		return errors.New("not now")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handled = append(l.handled, *e)
	return nil
}

func (l *ledger) all() []worker.Event[payload] {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.handled)
}

// retry is without long pauses: what waits for its next attempt is to have it soon after the move.
var retry = worker.Retry{InitialInterval: 300 * time.Millisecond, Multiplier: 1}

// work makes a worker.
func (l *ledger) work(t *testing.T, pool *pgxpool.Pool) *worker.Worker {
	t.Helper()
	w, err := worker.New(pool, worker.Config{Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		t.Fatal(err)
	}
	s := worker.Subscription{Name: "all", Topics: []string{">"}, Retry: retry, BreakerAfter: worker.Unlimited}
	if err := worker.Handle(w, s, l.handle); err != nil {
		t.Fatal(err)
	}
	return w
}

// start runs a worker until the returned function is called, or the test ends.
func (l *ledger) start(t *testing.T, pool *pgxpool.Pool) (stop func()) {
	t.Helper()
	w := l.work(t, pool)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// refuses has a worker refuse to serve a log.
func (l *ledger) refuses(t *testing.T, pool *pgxpool.Pool, want error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := l.work(t, pool).Run(ctx)
	if !errors.Is(err, want) {
		t.Fatalf("a worker ended with %v, want %v", err, want)
	}
	t.Logf("workers say: %v", err)
}

// publish appends n events of a key.
func publish(t *testing.T, db outbox.DB, key string, n int) {
	t.Helper()
	events := make([]outbox.Event, n)
	for i := range events {
		var err error
		if events[i], err = outbox.NewEvent("moves.tested", key, payload{i}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := outbox.Publish(t.Context(), db, events...); err != nil {
		t.Fatal(err)
	}
}

// open returns a transaction that has published.
func open(t *testing.T, server *embeddedpg.Server, key string) pgx.Tx {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	publish(t, tx, key, 3)
	return tx
}

func connect(t *testing.T, server *embeddedpg.Server) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func execute(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func query[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (v T) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// eventually waits until something is so.
func eventually(t *testing.T, pool *pgxpool.Pool, what, sql string, args ...any) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !query[bool](t, pool, sql, args...) {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s; %s", what, query[string](t, pool, `
				select format('%s events, cursors from %s to %s, %s held, deliveries %s', (select count(*) from outbox.events),
				              (select min(l.after_id) from outbox.lanes l), (select max(u.after_id) from outbox.progress p, unnest(p.after_ids) as u (after_id)),
				              (select count(*) from outbox.held_keys), (select json_object_agg(state, n) from (select d.state, count(*) as n from outbox.deliveries d group by 1) d))`))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

const (
	// passed is that every cursor is at the end of the log.
	passed = `select not exists (
	    select from outbox.lanes l
	    join outbox.events e on e.lane = l.lane
	    where e.id > coalesce((select u.after_id from outbox.progress p, unnest(p.lanes, p.after_ids) as u (lane, after_id)
	                           where p.owner = l.owner and p.subscription_id = l.subscription_id and u.lane = l.lane
	                           order by p.seq desc limit 1), l.after_id))`
	// settled is also that nothing waits.
	settled = passed + ` and not exists (select from outbox.deliveries d where d.state <> 'dead') and not exists (select from outbox.held_keys)`
)

// prepare migrates a server.
func prepare(t *testing.T, server *embeddedpg.Server) *pgxpool.Pool {
	t.Helper()
	pool := connect(t, server)
	if err := pool.AcquireFunc(t.Context(), func(c *pgxpool.Conn) error { return apply.Up(t.Context(), c.Conn(), migrations.Outbox) }); err != nil {
		t.Fatal(err)
	}
	return pool
}

// fill gives a server a log that has all that a log can have, and leaves it without a worker.
func fill(t *testing.T, server *embeddedpg.Server, l *ledger) {
	t.Helper()
	pool := connect(t, server)
	// Before there are workers: what is published while the doorbell is armed cannot be prepared.
	late, prepared := open(t, server, "late"), open(t, server, "prepared")
	if _, err := prepared.Exec(t.Context(), `prepare transaction 'moved'`); err != nil {
		t.Fatal(err)
	}
	stop := l.start(t, pool)
	for i := range 20 {
		publish(t, pool, fmt.Sprintf("settled%d", i), 10)
	}
	publish(t, pool, "", 50)
	publish(t, pool, "dead", 3)
	publish(t, pool, "fails", 3)
	for range 10 { // a transaction during which the worker reads is late, and begins no hold
		publish(t, pool, "held", 30)
	}
	eventually(t, pool, "there is some of everything", passed+`
		and exists (select from outbox.held_keys)
		and (select count(*) = 3 from outbox.deliveries d where d.state = 'dead')
		and exists (select from outbox.deliveries d where d.key = 'fails' and d.attempt > 0)`)
	eventually(t, pool, "cursors wait for the open transactions", `
		select exists (select from outbox.progress p where p.pending @> $1::bigint)`, query[int64](t, pool, `select min(l.transactionid::text::bigint) from pg_locks l where l.transactionid is not null`))
	stop()
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		publish(t, pool, fmt.Sprintf("backlog%d", i), 10)
	}
	inSavepoint(t, pool)
}

// inSavepoint publishes in a subtransaction: the rows are those of another transaction id than the event's.
func inSavepoint(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		publish(t, tx, "around", 1)
		return pgx.BeginFunc(t.Context(), tx, func(inner pgx.Tx) error {
			publish(t, inner, "within", 2)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// uids returns the ids of all events, by UID.
func uids(t *testing.T, pool *pgxpool.Pool) map[string]int64 {
	t.Helper()
	rows, _ := pool.Query(t.Context(), `select outbox.uid(e.id, e.published_at)::text, e.id from outbox.events e`)
	ids := map[string]int64{}
	var (
		uid string
		id  int64
	)
	if _, err := pgx.ForEachRow(rows, []any{&uid, &id}, func() error { ids[uid] = id; return nil }); err != nil {
		t.Fatal(err)
	}
	return ids
}

// goOn runs a worker on a log that was moved, and publishes to it, until all is settled. Each event of the log must then have been handled
// once in all, before the move or after; before has the UIDs of the events then. Those of lost keys were handled there, and never arrived.
func goOn(t *testing.T, pool *pgxpool.Pool, l *ledger, before map[string]int64) {
	t.Helper()
	here := uids(t, pool)
	for uid, id := range before {
		if here[uid] != id {
			t.Errorf("event %d had the UID %s, which is that of %d now", id, uid, here[uid])
		}
	}
	first := len(l.all())
	l.healed.Store(true)
	defer l.healed.Store(false)
	stop := l.start(t, pool)
	for i := range 10 {
		publish(t, pool, fmt.Sprintf("backlog%d", i), 2)
	}
	publish(t, pool, "", 10)
	publish(t, pool, "held", 2)
	eventually(t, pool, "all is settled", settled)
	stop()

	rows, _ := pool.Query(t.Context(), `
		select outbox.uid(e.id, e.published_at)::text, coalesce(e.key, '') from outbox.events e
		where not exists (select from outbox.deliveries d where d.event_id = e.id)`)
	want := map[string]string{}
	var uid, key string
	if _, err := pgx.ForEachRow(rows, []any{&uid, &key}, func() error { want[uid] = key; return nil }); err != nil {
		t.Fatal(err)
	}
	times, last := map[string]int{}, map[string]int64{}
	for i, e := range l.all() {
		times[e.UID]++
		if i < first || e.Key == "" {
			continue
		}
		if e.ID < last[e.Key] {
			t.Errorf("event %d of %q came after event %d", e.ID, e.Key, last[e.Key])
		}
		last[e.Key] = e.ID
	}
	lost, repeated := map[string]int{}, map[string]int{}
	for uid, key := range want {
		switch n := times[uid]; {
		case n == 0:
			lost[key]++
		case n > 1:
			repeated[key]++
		}
	}
	if len(lost) > 0 || len(repeated) > 0 {
		t.Errorf("lost, by key: %v; repeated: %v", lost, repeated)
	}
	t.Logf("%d events had been handled before the move, and %d were after it", first, len(l.all())-first)
	if first < 200 || len(want) < 500 {
		t.Errorf("of %d events, %d were handled before the move", len(want), first)
	}
	if gone := slices.Collect(maps.Keys(before)); len(gone) < 500 {
		t.Errorf("the move was of %d events", len(gone))
	}
}

// forget takes back what was handled after the first n events: the server that knows of it is gone.
func (l *ledger) forget(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handled = l.handled[:n]
}
