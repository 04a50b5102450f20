package metrics_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/metrics"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
	"github.com/signalbox-go/signalbox/worker"
)

// registered returns a registry with a Metrics only.
func registered(t *testing.T, cfg metrics.Config) (*metrics.Metrics, *prometheus.Registry) {
	t.Helper()
	cfg.Logger = testLogger(t)
	m := metrics.New(cfg)
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(m); err != nil {
		t.Fatal(err)
	}
	return m, registry
}

// gather returns the families of a registry by name.
func gather(t *testing.T, from prometheus.Gatherer) map[string]*dto.MetricFamily {
	t.Helper()
	list, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	families := map[string]*dto.MetricFamily{}
	for _, f := range list {
		families[f.GetName()] = f
	}
	return families
}

// values returns each series of a registry as text, such as name{a="x",b="y"}, without the default outbox's name, with its value: of a histogram, its count.
func values(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	found := map[string]float64{}
	for name, f := range gather(t, from) {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				if l.GetName() == "outbox" && l.GetValue() == "outbox" { // as all have it
					continue
				}
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			series := name
			if labels != nil {
				series += "{" + strings.Join(labels, ",") + "}"
			}
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				found[series] = m.GetCounter().GetValue()
			case dto.MetricType_HISTOGRAM:
				found[series] = float64(m.GetHistogram().GetSampleCount())
			default:
				found[series] = m.GetGauge().GetValue()
			}
		}
	}
	return found
}

// differences lists what is not as wanted.
func differences(have, want map[string]float64) string {
	var list []string
	for _, series := range slices.Sorted(maps.Keys(want)) {
		if value, ok := have[series]; !ok || value != want[series] {
			list = append(list, fmt.Sprintf("%s is %v (there: %t), want %v", series, value, ok, want[series]))
		}
	}
	return strings.Join(list, "\n")
}

// await gathers until all is as wanted, and returns the last values.
func await(t *testing.T, from prometheus.Gatherer, want map[string]float64) map[string]float64 {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		have := values(t, from)
		wrong := differences(have, want)
		if wrong == "" {
			return have
		}
		if time.Now().After(deadline) {
			t.Fatal(wrong)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func testLogger(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// start runs a worker of a subscription whose handler does what the payload says, until the test ends or stop is called.
func start(t *testing.T, pool *pgxpool.Pool, m *metrics.Metrics, name string, release <-chan struct{}) (stop func()) {
	t.Helper()
	w, err := worker.New(pool, worker.Config{Hooks: []worker.Hooks{m.Hooks()}, Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := worker.Subscription{
		Name: name, Topics: []string{">"}, ParkAfter: parkAfter,
		Retry: worker.Retry{MaxAttempts: 3, Delay: func(int) time.Duration { return time.Millisecond }},
	}
	if err := worker.Handle(w, s, handler(release)); err != nil {
		t.Fatal(err)
	}
	return run(t, w)
}

// parkAfter is long enough that a busy machine parks nothing that is not slow.
const parkAfter = 2 * time.Second

func run(t *testing.T, w *worker.Worker) (stop func()) {
	t.Helper()
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

// handler returns one that does what the payload says. A slow event waits to be released.
func handler(release <-chan struct{}) func(context.Context, *worker.Event[string]) error {
	return func(ctx context.Context, e *worker.Event[string]) error {
		switch e.Payload {
		case "fail once":
			if e.Attempt == 1 {
				return errors.New("once")
			}
		case "fail":
			return errors.New("always")
		case "dead":
			return worker.DeadLetter(errors.New("at once"))
		case "skip":
			return worker.Skip("as told")
		case "slow":
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
}

// publish publishes events without a key, whose payloads say what to do.
func publish(t *testing.T, db outbox.DB, topic string, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		e, err := outbox.NewEvent(topic, "", p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := outbox.Publish(t.Context(), db, e); err != nil {
			t.Fatal(err)
		}
	}
}

// load publishes a few events of two topics, and returns what has become of them in a subscription in the end.
func load(t *testing.T, db outbox.DB, subscription string) map[string]float64 {
	t.Helper()
	publish(t, db, "a.x", "", "", "", "fail once", "skip", "slow")
	publish(t, db, "b.x", "", "fail", "dead", "skip", "skip")
	of := func(name, topic string) string {
		return fmt.Sprintf("signalbox_%s_total{subscription=%q,topic=%q}", name, subscription, topic)
	}
	failed := func(kind, topic string) string {
		return fmt.Sprintf("signalbox_failed_total{kind=%q,subscription=%q,topic=%q}", kind, subscription, topic)
	}
	state := func(state string) string {
		return fmt.Sprintf("signalbox_deliveries{state=%q,subscription=%q}", state, subscription)
	}
	only := fmt.Sprintf("{subscription=%q}", subscription)
	return map[string]float64{
		of("delivered", "a.x"): 5, failed("error", "a.x"): 1, of("dead", "a.x"): 0, of("skipped", "a.x"): 1,
		of("delivered", "b.x"): 1, failed("error", "b.x"): 3, failed("dead_letter", "b.x"): 1, of("dead", "b.x"): 2, of("skipped", "b.x"): 2,
		"signalbox_attempt_duration_seconds" + only: 14, "signalbox_delivery_latency_seconds" + only: 6,
		"signalbox_parked_total" + only: 1,
		state("dead"):                   2, state("skipped"): 3, state("retrying"): 0, state("running"): 0, state("blocked"): 0,
		"signalbox_lag_events" + only: 0, "signalbox_lag_seconds" + only: 0, "signalbox_subscription_paused" + only: 0,
		"signalbox_log_ids_total": 11, "signalbox_up": 1,
	}
}

// TestCounts has a real worker handle a few events, and counts exactly what has become of them.
func TestCounts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	m, registry := registered(t, metrics.Config{Pool: db.Pool})
	want := load(t, db.Pool, "s")
	m.Published("a.x", 6)
	m.Published("b.x", 5)
	maps.Copy(want, map[string]float64{
		`signalbox_published_total{topic="a.x"}`: 6, `signalbox_published_total{topic="b.x"}`: 5,
		"signalbox_workers": 1, "signalbox_sentinels": 1, `signalbox_subscription_workers{subscription="s"}`: 1,
		`signalbox_unowned_lanes{subscription="s"}`: 0, `signalbox_log_held{subscription="s"}`: 0,
		`signalbox_doorbell{mode="armed"}`: 1, `signalbox_doorbell{mode="polling"}`: 0, `signalbox_doorbell{mode="unattended"}`: 0,
		"signalbox_evictions_total": 1, "signalbox_pool_max_connections": 32,
	})
	// Somebody joined and is gone without a word.
	gone := db.Conn(t)
	if _, err := engine.Join(t.Context(), gone, "gone", true, time.Hour, nil); err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	stop := start(t, db.Pool, m, "s", release)
	await(t, registry, map[string]float64{
		`signalbox_deliveries{state="running",subscription="s"}`: 1, `signalbox_parked_total{subscription="s"}`: 1,
	})
	close(release)
	have := await(t, registry, want)

	families := gather(t, registry)
	histogram := func(name string) *dto.Histogram { return families[name].GetMetric()[0].GetHistogram() }
	if sum := histogram("signalbox_window_events").GetSampleSum(); sum != 11 {
		t.Errorf("windows had %v events, want 11", sum)
	}
	// One event was slow enough to be parked, so it arrived no sooner.
	for _, name := range []string{"signalbox_attempt_duration_seconds", "signalbox_delivery_latency_seconds"} {
		if sum := histogram(name).GetSampleSum(); sum < parkAfter.Seconds() || sum > 600 {
			t.Errorf("%s has the sum %v", name, sum)
		}
	}
	if have["signalbox_wakeups_total"] == 0 || have["signalbox_pool_acquires_total"] == 0 {
		t.Errorf("no wake-ups, or no acquires: %v", have)
	}
	oldest := time.UnixMilli(int64(have["signalbox_log_oldest_timestamp_seconds"] * 1000))
	if age := time.Since(oldest); age < -time.Minute || age > 10*time.Minute {
		t.Errorf("the oldest event is %v old", age)
	}

	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}

	// Without a worker, and with one subscription paused, what is published stays.
	stop()
	if err := admin.Pause(t.Context(), db.Pool, "s"); err != nil {
		t.Fatal(err)
	}
	publish(t, db.Pool, "a.x", "")
	have = await(t, registry, map[string]float64{
		`signalbox_lag_events{subscription="s"}`: 1, `signalbox_subscription_paused{subscription="s"}`: 1,
		`signalbox_unowned_lanes{subscription="s"}`: 64, `signalbox_subscription_workers{subscription="s"}`: 0,
		"signalbox_workers": 0, "signalbox_sentinels": 0, `signalbox_doorbell{mode="unattended"}`: 1,
	})
	if have[`signalbox_lag_seconds{subscription="s"}`] <= 0 {
		t.Error("the lag has no age")
	}
}

// TestForms has batches and transactions observed once for each event.
func TestForms(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	m, registry := registered(t, metrics.Config{})
	publish(t, db.Pool, "a.x", "1", "2", "bad", "4")
	w, err := worker.New(db.Pool, worker.Config{Hooks: []worker.Hooks{m.Hooks()}, Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	of := func(name string) worker.Subscription {
		return worker.Subscription{Name: name, Topics: []string{">"}, Retry: worker.Retry{MaxAttempts: 1}}
	}
	check := func(e *worker.Event[string]) error {
		if e.Payload == "bad" {
			return errors.New("bad")
		}
		return nil
	}
	err = errors.Join(
		worker.HandleBatch(w, of("batch"), func(_ context.Context, events []*worker.Event[string]) error {
			errs := make([]error, len(events))
			for i, e := range events {
				errs[i] = check(e)
			}
			return worker.PerEvent(errs)
		}),
		worker.HandleTx(w, of("tx"), func(_ context.Context, _ pgx.Tx, e *worker.Event[string]) error { return check(e) }),
	)
	if err != nil {
		t.Fatal(err)
	}
	run(t, w)
	want := map[string]float64{}
	for _, name := range []string{"batch", "tx"} {
		want[fmt.Sprintf(`signalbox_delivered_total{subscription=%q,topic="a.x"}`, name)] = 3
		want[fmt.Sprintf(`signalbox_dead_total{subscription=%q,topic="a.x"}`, name)] = 1
		want[fmt.Sprintf(`signalbox_attempt_duration_seconds{subscription=%q}`, name)] = 4
		want[fmt.Sprintf(`signalbox_delivery_latency_seconds{subscription=%q}`, name)] = 3
	}
	await(t, registry, want)
}

// TestTopicsAreCapped has more topics than may have series of their own.
func TestTopicsAreCapped(t *testing.T) {
	t.Parallel()
	m, registry := registered(t, metrics.Config{MaxTopics: 3})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for n := range 50 {
				topic := fmt.Sprint("t.", n)
				if n == 7 {
					topic = "not \xff UTF-8"
				}
				m.Published(topic, 1)
				for _, s := range []string{"a", "b"} {
					m.Hooks().AttemptEnded(t.Context(), worker.Attempt{Subscription: s, Event: &outbox.Event{Topic: topic}})
				}
			}
		})
	}
	running.Wait()
	for name, subscriptions := range map[string]int{"signalbox_published_total": 1, "signalbox_delivered_total": 2} {
		family := gather(t, registry)[name]
		if n := len(family.GetMetric()); n != 4*subscriptions {
			t.Errorf("%s has %d series, want %d", name, n, 4*subscriptions)
		}
		sum, others := 0.0, 0.0
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue()
			for _, l := range m.GetLabel() {
				if l.GetName() == "topic" && l.GetValue() == "other" {
					others += m.GetCounter().GetValue()
				}
			}
		}
		if sum != float64(200*subscriptions) || others != float64(188*subscriptions) {
			t.Errorf("%s: %v in all, %v of other topics", name, sum, others)
		}
	}
}

// TestStateIsShared has several scrapes within seconds cost the database one look.
func TestStateIsShared(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	_, registry := registered(t, metrics.Config{Pool: db.Pool})
	first := values(t, registry)
	publish(t, db.Pool, "a.x", "")
	begun := db.Pool.Stat().AcquireCount()
	var running sync.WaitGroup
	for range 20 {
		running.Go(func() {
			if _, err := registry.Gather(); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if looks := db.Pool.Stat().AcquireCount() - begun; looks > 1 { // one if the machine is very slow
		t.Errorf("20 scrapes looked %d times", looks)
	}
	if first["signalbox_log_ids_total"] != 0 {
		t.Errorf("an unused log has handed out %v ids", first["signalbox_log_ids_total"])
	}
	await(t, registry, map[string]float64{"signalbox_log_ids_total": 1}) // soon it looks again
}

// TestManyDeliveries has more deliveries than are counted: those that there are few of are still counted exactly.
func TestManyDeliveries(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := engine.Subscribe(t.Context(), db.Pool, "s", []string{">"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Pool.Exec(t.Context(), `
		insert into outbox.deliveries (subscription_id, event_id, lane, topic, key, payload, headers, published_at, state, due_at)
		select 1, n, 7, 'a.x', case when n <= 6 then 'k' end, '{}', '{}', now(), case when n <= 8 then 'retrying' when n = 9 then 'skipped' else 'dead' end, now()
		from generate_series(1, 25000) n`); err != nil {
		t.Fatal(err)
	}
	_, registry := registered(t, metrics.Config{Pool: db.Pool})
	wrong := differences(values(t, registry), map[string]float64{
		"signalbox_up": 1,
		`signalbox_deliveries{state="dead",subscription="s"}`: 10_001, `signalbox_deliveries{state="skipped",subscription="s"}`: 1,
		`signalbox_deliveries{state="retrying",subscription="s"}`: 3, `signalbox_deliveries{state="blocked",subscription="s"}`: 5,
	})
	if wrong != "" {
		t.Error(wrong)
	}
}

// TestPublisherMayNotLook has a role that may publish and read nothing: the database is up, and its state is left out.
func TestPublisherMayNotLook(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	config := db.Pool.Config()
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `set role pg_signal_backend`) // any role that exists and has no rights here
		return err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	_, registry := registered(t, metrics.Config{Pool: pool})
	have := values(t, registry)
	if _, ok := have["signalbox_workers"]; ok || have["signalbox_up"] != 1 {
		t.Errorf("got %v", have)
	}
}

// TestDatabaseIsDown scrapes while the server is dead, and when it is back.
func TestDatabaseIsDown(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	pool := connect(t, server)
	m, registry := registered(t, metrics.Config{Pool: pool})
	m.Published("a.x", 1)
	await(t, registry, map[string]float64{"signalbox_up": 1, "signalbox_workers": 0})
	if err := syscall.Kill(server.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	have := await(t, registry, map[string]float64{"signalbox_up": 0})
	if _, stale := have["signalbox_workers"]; stale {
		t.Error("the state of before is still told")
	}
	if have[`signalbox_published_total{topic="a.x"}`] != 1 || have["signalbox_pool_max_connections"] == 0 {
		t.Errorf("the process' own metrics are missing: %v", have)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, registry, map[string]float64{"signalbox_up": 1, "signalbox_workers": 0})
}

// TestDatabaseHangs scrapes while the database accepts everything and answers nothing.
func TestDatabaseHangs(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx, err := db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `lock table outbox.subscriptions`); err != nil {
		t.Fatal(err)
	}
	_, registry := registered(t, metrics.Config{Pool: db.Pool})
	if have := values(t, registry); have["signalbox_up"] != 0 || have["signalbox_pool_max_connections"] == 0 {
		t.Errorf("got %v", have)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, registry, map[string]float64{"signalbox_up": 1})
}

func connect(t *testing.T, server *embeddedpg.Server) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	err = pool.AcquireFunc(t.Context(), func(c *pgxpool.Conn) error { return apply.Up(t.Context(), c.Conn(), migrations.Outbox) })
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// TestAttemptAllocatesNothing keeps the hot path what it is. It is not parallel: others' allocations would count.
func TestAttemptAllocatesNothing(t *testing.T) {
	ctx := t.Context()
	hooks := metrics.New(metrics.Config{MaxTopics: 1}).Hooks()
	for _, topic := range []string{"first", "second", "third"} { // one of its own, others
		a := attempt(topic)
		if n := testing.AllocsPerRun(100, func() { hooks.AttemptEnded(ctx, a) }); n != 0 {
			t.Errorf("%v allocations for an attempt", n)
		}
	}
}

func attempt(topic string) worker.Attempt {
	now := time.Now()
	e := &outbox.Event{Topic: topic, Payload: json.RawMessage(`{}`), PublishedAt: now.Add(-time.Second)}
	return worker.Attempt{Subscription: "s", Event: e, Number: 1, Duration: time.Millisecond, EndedAt: now}
}

// TestNamesThatAreNoText has two subscriptions whose labels are the same.
func TestNamesThatAreNoText(t *testing.T) {
	t.Parallel()
	m, registry := registered(t, metrics.Config{})
	for _, name := range []string{"s\xff", "s\xfe", "s\xff"} {
		a := attempt("a.x")
		a.Subscription = name
		m.Hooks().AttemptEnded(t.Context(), a)
	}
	await(t, registry, map[string]float64{
		`signalbox_attempt_duration_seconds{subscription="s�"}`:    3,
		`signalbox_delivered_total{subscription="s�",topic="a.x"}`: 3,
	})
}

// BenchmarkAttempt is what one event costs in a worker with metrics: events of one topic, of ten in turns, and while another worker
// of the process has the same subscription.
func BenchmarkAttempt(b *testing.B) {
	var mixed []worker.Attempt
	for n := range 10 {
		mixed = append(mixed, attempt(fmt.Sprint("orders.topic-", n)))
		mixed[n].Duration = time.Duration(n) * 100 * time.Microsecond
	}
	b.Run("topics=1", func(b *testing.B) {
		hooks, a := metrics.New(metrics.Config{}).Hooks(), attempt("orders.placed")
		b.ReportAllocs()
		for b.Loop() {
			hooks.AttemptEnded(b.Context(), a)
		}
	})
	b.Run("topics=10", func(b *testing.B) {
		hooks, n := metrics.New(metrics.Config{}).Hooks(), 0
		b.ReportAllocs()
		for b.Loop() {
			hooks.AttemptEnded(b.Context(), mixed[n%len(mixed)])
			n++
		}
	})
	b.Run("shared", func(b *testing.B) {
		hooks := metrics.New(metrics.Config{}).Hooks()
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for n := 0; p.Next(); n++ {
				hooks.AttemptEnded(b.Context(), mixed[n%len(mixed)])
			}
		})
	})
}
