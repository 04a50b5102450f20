package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/producer"
)

// differencesSQL compares the rollups to what they should be.
const differencesSQL = `
with wanted as (
    select s.name, count(*), sum(s.value::numeric), min(s.value), max(s.value), max(s.id) as last_id,
           (array_agg(s.value order by s.id desc))[1] as last_value
    from public.signals s
    group by s.name
)
select coalesce(w.name, r.name), w::text, r::text
from wanted w
full join public.signal_rollups r on r.name = w.name
where (w.count, w.sum, w.min, w.max, w.last_id, w.last_value) is distinct from (r.count, r.sum, r.min, r.max, r.last_id, r.last_value)`

// checkRollups compares the rollups to the signals, and returns how many of both there are.
func checkRollups(t *testing.T, db *pgxpool.Pool) (names, signals int) {
	t.Helper()
	var name string
	var want, got *string
	text := func(s *string) string {
		if s == nil {
			return "nothing"
		}
		return *s
	}
	rows, _ := db.Query(t.Context(), differencesSQL)
	_, err := pgx.ForEachRow(rows, []any{&name, &want, &got}, func() error {
		t.Errorf("the rollup of %q is %s, want %s", name, text(got), text(want))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.QueryRow(t.Context(), `select (select count(*) from public.signal_rollups), (select count(*) from public.signals)`).Scan(&names, &signals)
	if err != nil {
		t.Fatal(err)
	}
	return names, signals
}

func TestRollup(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	store := func(signals ...producer.Signal) {
		t.Helper()
		if _, err := producer.Store(t.Context(), db.Pool, signals...); err != nil {
			t.Fatal(err)
		}
	}
	// Doubles that do not add up, the extremes of the type, and one that has a lower id and commits later.
	store(producer.Signal{Name: "a", Value: 0.1}, producer.Signal{Name: "a", Value: 0.2}, producer.Signal{Name: "b", Value: -1e308}, producer.Signal{Name: "b", Value: 5e-324})
	late, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Rollback(context.Background()) //nolint:errcheck // a no-op after the commit
	if _, err := producer.Store(t.Context(), late, producer.Signal{Name: "late", Value: 1}); err != nil {
		t.Fatal(err)
	}
	store(producer.Signal{Name: "late", Value: 2}, producer.Signal{Name: "a", Value: 0.3})
	// What anybody can publish: not a signal, one that was not stored, and another topic.
	for topic, payload := range map[string]string{"signals.created": `"?"`, "signals.other": `{"id": 1, "name": "a", "value": 100}`} {
		if _, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: topic, Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := outbox.Publish(t.Context(), db.Pool, outbox.Event{Topic: "signals.created", Key: "a", Payload: []byte(`{"value": 7}`)}); err != nil {
		t.Fatal(err)
	}

	r := start(t, "--database-url", db.URL, "--subscription", "s", "--handler", "rollup")
	eventually(t, 20*time.Second, "the first are settled", func() bool {
		status, err := admin.GetStatus(t.Context(), db.Pool)
		return err == nil && len(status.Subscriptions) == 1 && status.Subscriptions[0].Lag.Events == 0 &&
			status.Subscriptions[0].Deliveries["dead"] == 1 && status.Subscriptions[0].Deliveries["retrying"] == 1
	})
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the late one counts", func() bool {
		var n int
		return db.Pool.QueryRow(t.Context(), `select count from public.signal_rollups where name = 'late'`).Scan(&n) == nil && n == 2
	})
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if names, signals := checkRollups(t, db.Pool); names != 3 || signals != 7 {
		t.Errorf("%d names of %d signals, want 3 of 7", names, signals)
	}
	for state, want := range map[outbox.State]string{outbox.Dead: errNotStored.Error(), outbox.Retrying: "cannot unmarshal"} {
		left, err := admin.ListDeliveries(t.Context(), db.Pool, admin.DeliveryFilter{Subscription: "s", States: []outbox.State{state}}, admin.ListOptions{})
		if err != nil || len(left.Items) != 1 || !strings.Contains(left.Items[0].Failures[0].Error, want) {
			t.Errorf("%s: %+v, %v; want %q", state, left, err, want)
		}
	}

	// A subscription with other topics would count other things.
	if _, err := engine.Subscribe(t.Context(), db.Pool, "all", []string{"signals.>"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	r = start(t, "--database-url", db.URL, "--subscription", "all", "--handler", "rollup")
	r.await(t, "this worker does not know all topics of the subscription: it leaves the lanes to workers that do", 1)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

var rollupFor = flag.Duration("rollup", 6*time.Second, "how long TestRollupUnderKills kills workers and servers")

// TestRollupUnderKills rolls up about 1,000 signals a second in three processes, while these are killed, their connections cut
// and PostgreSQL killed, at random. In the end, the rollups are those of the signals, exactly.
func TestRollupUnderKills(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	url := server.URL("postgres")
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	for _, set := range []migrations.Set{migrations.Outbox, migrations.Signals} {
		if err := pool.AcquireFunc(t.Context(), func(c *pgxpool.Conn) error { return apply.Up(t.Context(), c.Conn(), set) }); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(*rollupFor)
	stop := time.AfterFunc(*rollupFor+4*time.Minute, func() { t.Error("it takes too long") })
	defer stop.Stop()
	storing, refused := storeLoad(t, pool, deadline)
	live := func() *process {
		return spawn(t, "--database-url", url, "--subscription", "s", "--handler", "rollup", "--initial-interval", "10ms")
	}
	crew := []*process{live(), live(), live()}
	eventually(t, 20*time.Second, "it begins", func() bool { return counted(t, pool) > 0 })

	var killed, cut, crashed int
	for round := 0; time.Now().Before(deadline) || crashed == 0; round++ { // a busy machine takes longer for one of each
		if round%3 == 2 { // one that cannot start ends, and is its supervisor's to start again
			for _, p := range crew {
				p.await(t, "serving", 1)
			}
		}
		switch round % 6 {
		case 0, 1, 3, 4: // in any part of a window: this is the fault to inject, and waits for nothing
			time.Sleep(rand.N(700 * time.Millisecond))
			n := rand.N(len(crew))
			crew[n].Signal(syscall.SIGKILL)
			_ = crew[n].end()
			crew[n] = live()
			killed++
		case 2:
			_, err := pool.Exec(t.Context(), `
				select pg_terminate_backend(a.pid) from pg_stat_activity a
				where a.datname = current_database() and a.application_name like 'signalbox%'`)
			if err != nil {
				t.Fatal(err)
			}
			cut++
		case 5:
			if err := syscall.Kill(server.Pid(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := server.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			crashed++
		}
		before := int64(0)
		eventually(t, 30*time.Second, "the server answers", func() bool { before = counted(t, pool); return before > 0 })
		eventually(t, 30*time.Second, "more is rolled up", func() bool { return counted(t, pool) > before || time.Now().After(deadline) })
	}
	storing.Wait()
	eventually(t, time.Minute, "all is settled", func() bool { return settled(t, pool) })
	for _, p := range crew {
		p.await(t, "serving", 1) // before that, being stopped is a failure
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	}
	names, signals := checkRollups(t, pool)
	var left int
	if err := pool.QueryRow(t.Context(), `select count(*) from outbox.deliveries`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d deliveries are left, %v", left, err)
	}
	if signals == 0 || killed == 0 || cut == 0 || crashed == 0 {
		t.Errorf("nothing was tested: %d signals, %d workers killed, %d times cut off, %d crashes", signals, killed, cut, crashed)
	}
	t.Logf("%d signals of %d names in %v (%.0f/s); %d transactions failed; %d workers killed, all connections cut %d times, PostgreSQL killed %d times",
		signals, names, *rollupFor, float64(signals)/rollupFor.Seconds(), refused.Load(), killed, cut, crashed)
}

// storeLoad stores about 1,000 signals a second until the deadline, ten a transaction, and counts what failed: whether those
// were stored is for the table to say.
func storeLoad(t *testing.T, pool *pgxpool.Pool, deadline time.Time) (*sync.WaitGroup, *atomic.Int64) {
	var (
		running sync.WaitGroup
		failed  atomic.Int64
	)
	const producers, each = 4, 10
	for range producers {
		running.Go(func() {
			ticks := time.NewTicker(producers * each * time.Millisecond)
			defer ticks.Stop()
			for now := range ticks.C {
				if now.After(deadline) {
					return
				}
				signals := make([]producer.Signal, each)
				for i := range signals {
					signals[i] = producer.Signal{Name: fmt.Sprint("signal-", rand.N(50)), Value: rand.NormFloat64() * 1e6}
				}
				if _, err := producer.Store(t.Context(), pool, signals...); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	return &running, &failed
}

// counted returns how many signals are rolled up; none while the server cannot say.
func counted(t *testing.T, db *pgxpool.Pool) (n int64) {
	t.Helper()
	if db.QueryRow(t.Context(), `select coalesce(sum(count), 0)::bigint from public.signal_rollups`).Scan(&n) != nil {
		return 0
	}
	return n
}
