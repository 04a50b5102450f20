package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/metrics"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// durable returns a migrated database on a server of its own, with fsync and synchronous_commit on, and an eighth or so of a
// small machine's memory.
func durable(b *testing.B) *pgxpool.Pool {
	b.Helper()
	server, err := embeddedpg.Start(b.Context(), embeddedpg.Config{
		Settings: map[string]string{"shared_buffers": "1GB", "max_wal_size": "4GB"},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Stop() })
	config, err := pgxpool.ParseConfig(server.URL("postgres"))
	if err != nil {
		b.Fatal(err)
	}
	config.MaxConns = 40
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	err = pool.AcquireFunc(b.Context(), func(c *pgxpool.Conn) error { return apply.Up(b.Context(), c.Conn(), migrations.Outbox) })
	if err != nil {
		b.Fatal(err)
	}
	return pool
}

func benchExec(b *testing.B, pool *pgxpool.Pool, sql string, args ...any) {
	b.Helper()
	if _, err := pool.Exec(b.Context(), sql, args...); err != nil {
		b.Fatal(err)
	}
}

// run runs a worker until the returned function is called.
func run(b *testing.B, pool *pgxpool.Pool, cfg worker.Config, handler func(context.Context, *worker.Event[json.RawMessage]) error) (stop func()) {
	b.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	w, err := worker.New(pool, cfg)
	if err != nil {
		b.Fatal(err)
	}
	if err := worker.Handle(w, worker.Subscription{Name: "bench", Topics: []string{"bench.>"}}, handler); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// BenchmarkDrain empties a backlog of 1,000,000 events with 160 bytes of JSON each, by one worker whose handler does nothing, but
// for one in a hundred in some cases, which fails at its first attempt. Keyed events have one of 1,000 keys. With metrics, each
// event is counted and timed.
func BenchmarkDrain(b *testing.B) {
	b.Run("keyed", func(b *testing.B) { drain(b, worker.Config{}, true, 0) })
	b.Run("keyless", func(b *testing.B) { drain(b, worker.Config{}, false, 0) })
	b.Run("keyless,metrics", func(b *testing.B) {
		drain(b, worker.Config{Hooks: []worker.Hooks{metrics.New(metrics.Config{}).Hooks()}}, false, 0)
	})
	b.Run("keyless,failing=1%", func(b *testing.B) { drain(b, worker.Config{}, false, 100) })
	b.Run("keyed,failing=1%", func(b *testing.B) { drain(b, worker.Config{}, true, 100) })
}

func drain(b *testing.B, cfg worker.Config, keyed bool, failing int64) {
	const events = 1_000_000
	pool := durable(b)
	var rates []float64
	for b.Loop() {
		b.StopTimer()
		benchExec(b, pool, `truncate outbox.events, outbox.subscriptions cascade`)
		benchExec(b, pool, `
			insert into outbox.events (topic, key, payload)
			select 'bench.drained', case when $2 then 'key-' || i % 1000 end,
			       jsonb_build_object('id', i, 'name', 'key-' || i % 1000, 'value', i / 7.0, 'note', repeat('x', 90))
			from generate_series(1, $1) as i`, events, keyed)
		benchExec(b, pool, `vacuum (analyze) outbox.events`) // as autovacuum does with a backlog
		benchExec(b, pool, `checkpoint`)
		var handled atomic.Int64
		drained := make(chan struct{})
		b.StartTimer()
		start := time.Now()
		stop := run(b, pool, cfg, func(_ context.Context, e *worker.Event[json.RawMessage]) error {
			if failing > 0 && e.ID/1000%failing == e.ID%failing && e.Attempt == 1 { // whatever its key
				return errors.New("at its first attempt")
			}
			if handled.Add(1) == events {
				close(drained)
			}
			return nil
		})
		<-drained
		stop() // all is settled
		rates = append(rates, events/time.Since(start).Seconds())
	}
	slices.Sort(rates)
	b.ReportMetric(rates[len(rates)/2], "events/s")
}

// BenchmarkDoorbell wakes an idle worker, and measures from before the publishing transaction to the handler.
func BenchmarkDoorbell(b *testing.B) {
	pool := durable(b)
	woken := make(chan struct{})
	stop := run(b, pool, worker.Config{}, func(context.Context, *worker.Event[json.RawMessage]) error {
		woken <- struct{}{}
		return nil
	})
	defer stop()
	for armed := false; !armed; {
		s, err := admin.GetStatus(b.Context(), pool)
		if err != nil {
			b.Fatal(err)
		}
		armed = s.Doorbell == "armed"
	}
	var took []time.Duration
	for range 300 {
		time.Sleep(20 * time.Millisecond) // so that it is idle
		start := time.Now()
		if _, err := outbox.Publish(b.Context(), pool, outbox.Event{Topic: "bench.rung", Payload: json.RawMessage(`{}`)}); err != nil {
			b.Fatal(err)
		}
		<-woken
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(milliseconds(quantile(took, 0.5)), "p50-ms")
	b.ReportMetric(milliseconds(quantile(took, 0.99)), "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPublish has producers commit a row and an event each as fast as they can, beside a worker, in turns with the
// doorbell's trigger and without. It reports both rates, their ratio, and the latency with the trigger, which is from before
// the transaction to the handler.
func BenchmarkPublish(b *testing.B) {
	for _, producers := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("producers=%d", producers), func(b *testing.B) {
			pool := durable(b)
			benchExec(b, pool, `create table public.orders (id bigint primary key generated always as identity, name text not null)`)
			var (
				mu   sync.Mutex
				took []time.Duration
				from time.Time // what was published before is not measured
			)
			stop := run(b, pool, worker.Config{}, func(_ context.Context, e *worker.Event[json.RawMessage]) error {
				var start int64
				if err := json.Unmarshal(e.Payload, &start); err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				if at := time.Unix(0, start); at.After(from) {
					took = append(took, time.Since(at))
				}
				return nil
			})
			defer stop()
			rate := func(d time.Duration) float64 {
				var n atomic.Int64
				var running sync.WaitGroup
				start := time.Now()
				for p := range producers {
					running.Go(func() {
						for time.Since(start) < d {
							if err := publishOrder(b.Context(), pool, fmt.Sprint("key-", p)); err != nil {
								b.Error(err)
								return
							}
							n.Add(1)
						}
					})
				}
				running.Wait()
				return float64(n.Load()) / time.Since(start).Seconds()
			}
			rate(2 * time.Second)
			var with, without []float64
			var latencies []time.Duration
			for range 5 {
				benchExec(b, pool, `alter table outbox.events disable trigger doorbell`)
				without = append(without, rate(3*time.Second))
				benchExec(b, pool, `alter table outbox.events enable trigger doorbell`)
				mu.Lock()
				took, from = nil, time.Now()
				mu.Unlock()
				with = append(with, rate(3*time.Second))
				mu.Lock()
				latencies = append(latencies, took...)
				mu.Unlock()
			}
			slices.Sort(with)
			slices.Sort(without)
			slices.Sort(latencies)
			b.ReportMetric(with[len(with)/2], "tx/s")
			b.ReportMetric(without[len(without)/2], "tx/s-without")
			b.ReportMetric(with[len(with)/2]/without[len(without)/2], "ratio")
			b.ReportMetric(milliseconds(quantile(latencies, 0.5)), "p50-ms")
			b.ReportMetric(milliseconds(quantile(latencies, 0.99)), "p99-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func publishOrder(ctx context.Context, pool *pgxpool.Pool, key string) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		start := time.Now()
		if _, err := tx.Exec(ctx, `insert into public.orders (name) values ($1)`, key); err != nil {
			return err
		}
		e := outbox.Event{Topic: "bench.placed", Key: key, Payload: json.RawMessage(fmt.Sprint(start.UnixNano()))}
		_, err := outbox.Publish(ctx, tx, e)
		return err
	})
}

// BenchmarkDeadLetters counts, lists and retries 100,000 dead letters, of which half have a key, beside fresh events: it reports
// how long each takes, how long until all are delivered, and the latency of fresh events before and meanwhile.
func BenchmarkDeadLetters(b *testing.B) {
	const letters = 100_000
	pool := durable(b)
	var retried atomic.Int64
	fresh := make(chan struct{}, 1)
	delivered := make(chan struct{})
	stop := run(b, pool, worker.Config{}, func(_ context.Context, e *worker.Event[json.RawMessage]) error {
		if e.Topic == "bench.fresh" {
			fresh <- struct{}{}
		} else if retried.Add(1) == letters {
			close(delivered)
		}
		return nil
	})
	defer stop()
	publish := func() time.Duration {
		start := time.Now()
		if _, err := outbox.Publish(b.Context(), pool, outbox.Event{Topic: "bench.fresh", Payload: json.RawMessage(`{}`)}); err != nil {
			b.Fatal(err)
		}
		<-fresh
		return time.Since(start)
	}
	publish() // the subscription exists from here on
	benchExec(b, pool, `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, attempt, due_at, errors)
		select 1, -i, case when i % 2 = 0 then hashtext('key-' || i % 1000) & 63 else i % 64 end, 'bench.dead', case when i % 2 = 0 then 'key-' || i % 1000 end,
		       '{}', '{}', now(), 'dead', 20, now(), jsonb_build_array(jsonb_build_object('attempt', 20, 'at', now(), 'worker', 'w', 'error', 'error ' || i % 10))
		from generate_series(1, $1::integer) i`, letters)
	timed := func(metric string, do func() error) {
		start := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(milliseconds(time.Since(start)), metric)
	}
	var quiet, busy []time.Duration
	for range 100 {
		quiet = append(quiet, publish())
	}
	f := admin.DeliveryFilter{Subscription: "bench", Error: "error 3"}
	timed("count-ms", func() error { _, err := admin.CountDeliveries(b.Context(), pool, f); return err })
	timed("list-ms", func() error { _, err := admin.ListDeliveries(b.Context(), pool, f, admin.ListOptions{}); return err })
	start := time.Now()
	timed("retry-ms", func() error {
		_, err := admin.RetryDeliveries(b.Context(), pool, admin.DeliveryFilter{Subscription: "bench"})
		return err
	})
	for waiting := true; waiting; {
		busy = append(busy, publish())
		select {
		case <-delivered:
			waiting = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	b.ReportMetric(letters/time.Since(start).Seconds(), "retried/s")
	for name, took := range map[string][]time.Duration{"quiet": quiet, "busy": busy} {
		slices.Sort(took)
		b.ReportMetric(milliseconds(quantile(took, 0.5)), name+"-p50-ms")
		b.ReportMetric(milliseconds(quantile(took, 0.99)), name+"-p99-ms")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkSlowNeighbour measures the latency of a subscription alone, and beside one whose handlers take long; and how old the
// oldest transaction gets meanwhile.
func BenchmarkSlowNeighbour(b *testing.B) {
	for _, slow := range []time.Duration{0, 30 * time.Second} {
		b.Run(fmt.Sprintf("neighbour=%v", slow), func(b *testing.B) {
			pool := durable(b)
			w, err := worker.New(pool, worker.Config{Logger: slog.New(slog.DiscardHandler), ShutdownTimeout: time.Second})
			if err != nil {
				b.Fatal(err)
			}
			handled := make(chan struct{}, 1)
			topics := []string{"bench.>"}
			if slow > 0 {
				err = worker.Handle(w, worker.Subscription{Name: "slow", Topics: topics}, func(ctx context.Context, _ *worker.Event[json.RawMessage]) error {
					select {
					case <-time.After(slow):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			err = worker.Handle(w, worker.Subscription{Name: "quick", Topics: topics}, func(context.Context, *worker.Event[json.RawMessage]) error {
				handled <- struct{}{}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error, 1)
			go func() { done <- w.Run(ctx) }()
			var took []time.Duration
			var oldest float64
			for range 300 {
				time.Sleep(20 * time.Millisecond)
				start := time.Now()
				if _, err := outbox.Publish(b.Context(), pool, outbox.Event{Topic: "bench.both", Payload: json.RawMessage(`{}`)}); err != nil {
					b.Fatal(err)
				}
				<-handled
				took = append(took, time.Since(start))
				var age float64
				err := pool.QueryRow(b.Context(), `
					select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::double precision from pg_stat_activity
					where application_name like 'signalbox%'`).Scan(&age)
				if err != nil {
					b.Fatal(err)
				}
				oldest = max(oldest, age)
			}
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			slices.Sort(took)
			b.ReportMetric(milliseconds(quantile(took, 0.5)), "p50-ms")
			b.ReportMetric(milliseconds(quantile(took, 0.99)), "p99-ms")
			b.ReportMetric(1000*oldest, "oldest-tx-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}
