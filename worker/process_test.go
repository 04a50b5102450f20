package worker_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/proc"
	"github.com/signalbox-go/signalbox/worker"
)

// The tests kill real processes: the test binary runs itself as a worker, in this role, which has a processConfig.
const processRole proc.Role = "SIGNALBOX_TEST_PROCESS"

type processConfig struct {
	URL          string
	Subscription string
	Name         string
	Lease        time.Duration
	Killer       int    // the number of the event that kills its process; 0 for none
	KillBy       string // "exit" or "memory"
	Outage       bool   // whether all other events fail, and few of them open the breaker
	Attempts     int    // Retry.Attempts
	Stuck        int    // handlers of events with a number below this report, and do not return
	ParkAfter    time.Duration
	Count        bool     // whether events are counted, in the settling transaction
	Fates        bool     // whether an event's key says what becomes of it: see fate
	Topics       []string // of the subscription; none for all
	Ledger       bool     // whether events are written into the table ledger, in the settling transaction
	Many         int      // how many subscriptions there are, with a topic each; 0 for the one that the rest is about
	Random       bool     // whether handlers fail, take long, and so on, at random; they report to the table handled
}

// A line is what a process reports of each event it handles.
type line struct {
	ID  int64  `json:"id"`
	Key string `json:"key"`
	N   int    `json:"n"`
}

func runProcess() {
	var cfg processConfig
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fail(processRole.Config(&cfg))
	proc.EndWithParent()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Println() // SIGTERM ends it well from here on
	pool, err := pgxpool.New(ctx, cfg.URL)
	fail(err)
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	w, err := worker.New(pool, worker.Config{Name: cfg.Name, Lease: cfg.Lease, Logger: logger})
	fail(err)
	var mu sync.Mutex
	out := bufio.NewWriter(os.Stdout)
	s := worker.Subscription{Name: cfg.Subscription, Topics: []string{">"}, ParkAfter: cfg.ParkAfter, Retry: worker.Retry{MaxAttempts: cfg.Attempts}}
	if cfg.Outage {
		s.BreakerAfter = 5
	}
	if cfg.Random {
		s.ParkAfter = 30 * time.Millisecond
		s.Retry.Delay = func(int) time.Duration { return rand.N(50 * time.Millisecond) }
	}
	if cfg.Fates {
		s.ParkAfter = 50 * time.Millisecond
		s.Retry = worker.Retry{MaxAttempts: 10_000, Delay: func(int) time.Duration { return 500 * time.Millisecond }}
	}
	if len(cfg.Topics) > 0 {
		s.Topics = cfg.Topics
	}
	if cfg.Many > 0 {
		for i := range cfg.Many {
			fail(worker.Handle(w, topicOf(i), func(context.Context, *worker.Event[payload]) error { return nil }))
		}
		fail(w.Run(ctx))
		return
	}
	if cfg.Ledger {
		fail(worker.HandleTx(w, s, func(ctx context.Context, tx pgx.Tx, e *worker.Event[payload]) error {
			if !slices.Contains(cfg.Topics, e.Topic) {
				return worker.DeadLetter(errors.New("an event of a topic that this binary has never heard of"))
			}
			_, err := tx.Exec(ctx, `insert into public.ledger (event_id, worker) values ($1, $2)`, e.ID, cfg.Name)
			return err
		}))
		fail(w.Run(ctx))
		return
	}
	if cfg.Count {
		fail(worker.HandleBatchTx(w, s, count))
		fail(w.Run(ctx))
		return
	}
	fail(worker.Handle(w, s, func(ctx context.Context, e *worker.Event[payload]) error {
		if cfg.Killer != 0 && e.Payload.N == cfg.Killer {
			if cfg.KillBy == "memory" {
				exhaustMemory()
			}
			os.Exit(3)
		}
		if cfg.Outage {
			return errors.New("connection refused")
		}
		if cfg.Fates {
			if err := fate(ctx, e.Key); err != nil {
				return err
			}
		}
		if cfg.Random {
			return handleAtRandom(ctx, pool, e)
		}
		raw, err := json.Marshal(line{e.ID, e.Key, e.Payload.N})
		if err != nil {
			return err
		}
		mu.Lock()
		_, _ = out.Write(append(raw, '\n'))
		err = out.Flush() // what is reported is handled, whatever happens to the process
		mu.Unlock()
		if e.Payload.N < cfg.Stuck {
			<-ctx.Done()
			return ctx.Err()
		}
		return err
	}))
	fail(w.Run(ctx))
}

// exhaustMemory takes what the process may have, and then more, which ends it.
func exhaustMemory() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	limit := syscall.Rlimit{Cur: m.Sys + 64<<20, Max: m.Sys + 64<<20}
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &limit); err != nil {
		panic(err)
	}
	for taken := [][]byte{}; ; {
		taken = append(taken, make([]byte, 16<<20))
		runtime.KeepAlive(taken)
	}
}

// createCounts creates the table that count counts in.
func createCounts(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), `create table public.counts (key text primary key, n bigint not null, total numeric not null)`); err != nil {
		t.Fatal(err)
	}
}

// checkCounts checks that every event was counted once.
func checkCounts(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	rows, _ := pool.Query(t.Context(), `
		select e.key, e.n, e.total, coalesce(c.n, 0), coalesce(c.total, 0)::bigint
		from (select coalesce(e.key, '') as key, count(*) as n, sum((e.payload ->> 'n')::bigint)::bigint as total from outbox.events e group by e.key) e
		full join public.counts c on c.key = e.key`)
	var (
		key                     *string
		events, sum             *int64
		counted, total, checked int64
	)
	_, err := pgx.ForEachRow(rows, []any{&key, &events, &sum, &counted, &total}, func() error {
		switch checked++; {
		case key == nil:
			t.Errorf("%d events were counted of a key that has none", counted)
		case counted != *events || total != *sum:
			t.Errorf("%q: counted %d, sum %d; there are %d events, sum %d", *key, counted, total, *events, *sum)
		}
		return nil
	})
	if err != nil || checked == 0 {
		t.Errorf("compared %d counts, %v", checked, err)
	}
}

// count adds events to the table counts.
func count(ctx context.Context, tx pgx.Tx, events []*worker.Event[payload]) error {
	keys, ns := make([]string, len(events)), make([]int, len(events))
	for i, e := range events {
		keys[i], ns[i] = e.Key, e.Payload.N
	}
	_, err := tx.Exec(ctx, `
		insert into public.counts as c (key, n, total)
		select e.key, count(*), sum(e.n) from unnest($1::text[], $2::integer[]) as e (key, n) group by e.key order by e.key
		on conflict (key) do update set n = c.n + excluded.n, total = c.total + excluded.total`, keys, ns)
	return err
}

// fate is what becomes of an event of a key.
func fate(ctx context.Context, key string) error {
	switch key {
	case "dead":
		return worker.DeadLetter(errors.New("as its key says"))
	case "fails":
		return errors.New("as its key says")
	case "slow":
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// handleAtRandom fails, panics, takes long, asks for a retry, and succeeds, which it reports to a table: its order is that of
// the successes of a key, whatever process they were in.
func handleAtRandom(ctx context.Context, pool *pgxpool.Pool, e *worker.Event[payload]) error {
	switch dice := rand.N(100); {
	case dice < 5:
		return errors.New("at random")
	case dice < 7:
		panic("at random")
	case dice < 9:
		return worker.RetryAfter(rand.N(100*time.Millisecond), nil)
	case dice < 12:
		select {
		case <-time.After(rand.N(200 * time.Millisecond)): // long enough to be parked
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	_, err := pool.Exec(ctx, `insert into public.handled (key, n) values ($1, $2)`, e.Key, e.Payload.N)
	return err
}

// A process is a worker of its own.
type process struct {
	*proc.Process
	name string
	log  lines

	mu    sync.Mutex
	lines []line
	last  time.Time
}

func spawn(t *testing.T, cfg processConfig) *process {
	t.Helper()
	env, err := processRole.Env(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{name: cfg.Name}
	up := make(chan struct{})
	var once sync.Once
	p.Process, err = proc.Start(t.Context(), proc.Config{Env: []string{env}, Stderr: io.MultiWriter(&p.log, t.Output()), Line: func(text []byte) {
		once.Do(func() { close(up) })
		p.read(text)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	select {
	case <-up:
	case <-p.Ended():
	}
	return p
}

// read takes a line, unless it is the empty first one, or one that a kill has cut off.
func (p *process) read(text []byte) {
	var l line
	if json.Unmarshal(text, &l) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines, p.last = append(p.lines, l), time.Now()
}

func (p *process) handled() []line {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]line(nil), p.lines...)
}

// rejoined reports whether the process has lost its session, as on a machine that is too busy to answer it in time. What it had begun, it has
// handled again.
func (p *process) rejoined() bool { return p.log.has("will join again") }

// stop drains the process and checks that it ends well.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.Signal(syscall.SIGTERM)
	if !p.State().Success() {
		t.Errorf("%s ended with %v", p.name, p.State())
	}
}

// patience is for what happens at once on a machine that has nothing else to do. It is less than the minute after which a worker compares its
// backlog with the database, and so finds what it has forgotten.
const patience = 50 * time.Second

// eventually waits until the condition holds, and returns how long that took. A machine that is busy with other tests has no less than patience.
func eventually(t *testing.T, within time.Duration, what string, condition func() bool) time.Duration {
	t.Helper()
	within = max(within, patience)
	start := time.Now()
	for !condition() {
		if time.Since(start) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(start)
}
