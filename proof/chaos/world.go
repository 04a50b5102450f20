package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/proxy"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// A config is what a run may be told.
type config struct {
	length     time.Duration // of the faults; the traffic goes on for as long
	seed       uint64
	rate       float64       // transactions a second, in all
	lease      time.Duration // of the workers
	only       string        // the kind of fault that comes, each time alone; all of them if empty
	drainLimit time.Duration // from the end of the last fault until nothing is left to do
	slack      time.Duration // see evidence
	skew       time.Duration // by which the clocks of some workers are wrong; 0 for none
	out        io.Writer     // progress
}

// A world is everything in a run: the server, the publishers, the workers, and the faults.
type world struct {
	config
	folder     string // of the reports and the logs
	server     *embeddedpg.Server
	serverDown sync.Mutex    // whoever has it may take the server down
	db         *pgxpool.Pool // the harness's own connections, which no proxy hits
	proxy      *proxy.Proxy  // of the publishers
	ledger     *ledger
	reports    *reports
	signs      *signs
	crew       *crew
	producer   *producerProcess
	publishers *publishers
	start      time.Duration

	silenced atomic.Int64 // connections, one after the other

	mu       sync.Mutex
	injected []injected
}

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.out, "%6.1fs  "+format+"\n", append([]any{(now() - w.start).Seconds()}, args...)...)
}

// run makes a world, has it go through the faults, and judges what is left. An error says that this could not be done.
func run(ctx context.Context, cfg config) (_ *verdict, err error) {
	w := &world{config: cfg, start: now(), ledger: &ledger{}}
	if w.folder, err = os.MkdirTemp("", "signalbox-chaos-"); err != nil {
		return nil, err
	}
	var v *verdict
	defer func() {
		if err == nil && v.Verdict == "passed" {
			err = os.RemoveAll(w.folder)
			return
		}
		w.say("reports and logs of all processes are in %s", w.folder)
	}()
	w.signs = &signs{folder: w.folder, raised: map[sign]int{}}
	w.say("seed %d: this and the same duration give the same faults again", cfg.seed)
	if err := w.build(ctx); err != nil {
		return nil, errors.Join(err, w.tearDown())
	}
	v, err = w.live(ctx)
	return v, errors.Join(err, w.tearDown())
}

// build starts everything but the traffic.
func (w *world) build(ctx context.Context) (err error) {
	w.server, err = embeddedpg.Start(ctx, embeddedpg.Config{
		Logf: func(format string, args ...any) { w.say(format, args...) },
		// A killed server's shared memory would stay in the system's folder for it: put it into the server's own.
		Settings: map[string]string{"dynamic_shared_memory_type": "mmap", "max_connections": "300"},
	})
	if err != nil {
		return err
	}
	if w.db, err = pgxpool.New(ctx, w.server.URL("postgres")); err != nil {
		return err
	}
	if err := w.db.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		for _, set := range []migrations.Set{migrations.Outbox, migrations.Signals} {
			if err := apply.Up(ctx, c.Conn(), set); err != nil {
				return err
			}
		}
		_, err := c.Exec(ctx, historySQL)
		return err
	}); err != nil {
		return err
	}
	target, err := url.Parse(w.server.URL("postgres"))
	if err != nil {
		return err
	}
	through := func(address string) string {
		u := *target
		u.Host = address
		return u.String()
	}
	if w.reports, err = openReports(reportsFile(w.folder)); err != nil {
		return err
	}
	if w.proxy, err = proxy.New("the publishers", target.Host); err != nil {
		return err
	}
	w.crew = &crew{url: through, folder: w.folder, lease: w.lease}
	if w.skew != 0 {
		w.say("building workers whose clock is wrong by %v", w.skew)
		if w.crew.skewed, err = buildSkewed(ctx, w.folder, w.skew); err != nil {
			return err
		}
	}
	if w.producer, err = startProducer(ctx, w.folder, target.Host, through); err != nil {
		return err
	}
	if err := w.crew.start(target.Host); err != nil {
		return err
	}
	return w.awaitCrew(ctx)
}

// awaitCrew returns when every lane of every subscription has an owner.
func (w *world) awaitCrew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		var n int
		err := w.db.QueryRow(ctx, `select count(*) from outbox.lanes l where l.owner is not null`).Scan(&n)
		if err != nil {
			return fmt.Errorf("wait for the workers: %w", err)
		}
		if n == engine.Lanes*len(subscriptions) {
			return nil
		}
		if pause(ctx, 50*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("wait for the workers: %d lanes have an owner: %w", n, ctx.Err())
		}
	}
}

func (w *world) tearDown() error {
	if w.publishers != nil {
		w.publishers.close()
	}
	if w.producer != nil {
		w.producer.close()
	}
	if w.crew != nil && w.crew.stop != nil {
		w.crew.dismiss()
	}
	if w.proxy != nil {
		w.proxy.Close()
	}
	if w.reports != nil {
		_ = w.reports.file.Close()
	}
	if w.db != nil {
		w.db.Close()
	}
	if w.server != nil {
		return w.server.Stop()
	}
	return nil
}

// live runs the traffic and the faults, and judges.
func (w *world) live(ctx context.Context) (*verdict, error) {
	plan := schedule(w.seed, w.length, w.lease, w.only)
	w.say("the workers serve: %d faults are to come in %v", len(plan), w.length)
	w.start = now()
	w.publishers = startPublishers(w.ledger, w.seed, w.url(w.proxy), "http://"+w.producer.address, w.rate)
	watching, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	defer unwatch()
	var watcher sync.WaitGroup
	watcher.Go(func() { w.watch(watching) })
	err := w.inject(ctx, plan)
	last := now()
	w.say("the last fault is over, and the traffic ends")
	w.publishers.close()
	w.producer.close()
	lasted := now() - w.start
	drained := w.awaitDrained(last)
	unwatch()
	watcher.Wait()
	if err != nil {
		return nil, err
	}
	if drained == 0 {
		w.say("the lag does not come back to 0")
	} else {
		w.say("nothing is left to do, %v after the last fault", drained.Round(time.Millisecond))
	}
	w.crew.dismiss()
	w.crew.stop = nil
	w.publishers, w.producer = nil, nil
	return w.judge(context.WithoutCancel(ctx), circumstances{
		seed: w.seed, lasted: lasted, drained: drained, drainLimit: w.drainLimit,
		processes: int(w.crew.processes), failures: w.crew.faults, skew: w.skew,
	})
}

func (w *world) url(p *proxy.Proxy) string { return w.crew.url(p.Address()) }

// inject runs the schedule to its end, or until ctx ends: then what was begun is over soon.
func (w *world) inject(ctx context.Context, plan []fault) error {
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		errs    []error
	)
	for i, f := range plan {
		if i == len(plan)-1 {
			running.Wait() // the last one comes alone
		}
		if pause(ctx, f.at-(now()-w.start)); ctx.Err() != nil {
			break
		}
		w.say("FAULT %s for %v", f.kind.name, f.length)
		running.Go(func() {
			from := now()
			err := f.kind.run(ctx, w, &f)
			to := now()
			w.say("over: %s, after %v", f.kind.name, (to - from).Round(time.Millisecond))
			w.mu.Lock()
			w.injected = append(w.injected, injected{f.kind.name, from, to})
			w.mu.Unlock()
			if err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("%s: %w", f.kind.name, err))
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// watch takes in reports, and says now and then how it goes.
func (w *world) watch(ctx context.Context) {
	for i := 1; ctx.Err() == nil; i++ {
		if err := w.reports.read(); err != nil {
			w.say("%v", err)
		}
		if pause(ctx, time.Second); i%10 == 0 {
			w.say("%s; %d calls", w.ledger.tally(), len(w.reports.all()))
		}
	}
}

// drainPatience is how long a run waits for what is left, to tell a late event from a lost one.
const drainPatience = 90 * time.Second

// awaitDrained returns how long after a moment nothing was left to do: no event that a cursor has yet to pass, no delivery that is
// not at its end, and nobody who may still publish. It returns 0 if that never came.
func (w *world) awaitDrained(since time.Duration) time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), drainPatience)
	defer cancel()
	told := since
	for ctx.Err() == nil {
		left, err := w.left(ctx)
		if err == nil && left == "" {
			return now() - since
		}
		if now()-told > 2*time.Second {
			told = now()
			w.say("left to do: %s", cmp.Or(left, fmt.Sprint(err)))
		}
		pause(ctx, 20*time.Millisecond)
	}
	return 0
}

// left says what is left to do.
func (w *world) left(ctx context.Context) (string, error) {
	var (
		left       []string
		publishing int
	)
	err := w.db.QueryRow(ctx, `
		select count(*) from pg_stat_activity a
		where a.backend_type = 'client backend' and a.pid <> pg_backend_pid() and a.datname = current_database()
		  and a.application_name !~ '^signalbox worker' and a.state <> 'idle'`).Scan(&publishing)
	if err != nil {
		return "", err
	}
	if publishing > 0 {
		left = append(left, fmt.Sprintf("%d publishers", publishing))
	}
	status, err := admin.GetStatus(ctx, w.db)
	if err != nil {
		return "", err
	}
	for _, s := range status.Subscriptions {
		if retrying, running := s.Deliveries["retrying"]+s.Deliveries[admin.Blocked], s.Deliveries["running"]; s.Lag.Events+retrying+running > 0 {
			left = append(left, fmt.Sprintf("%s has a lag of %d, %d retrying and %d running", s.Name, s.Lag.Events, retrying, running))
		}
	}
	return strings.Join(left, "; "), nil
}

// judge gathers the evidence. Everybody is gone by now.
func (w *world) judge(ctx context.Context, c circumstances) (_ *verdict, err error) {
	if err := w.reports.read(); err != nil {
		return nil, err
	}
	e := evidence{entries: w.ledger.entries, reports: w.reports.all(), faults: w.injected, lease: w.lease, slack: w.slack}
	if e.log, err = readLog(ctx, w.db); err != nil {
		return nil, err
	}
	if e.effects, err = readEffects(ctx, w.db); err != nil {
		return nil, err
	}
	if e.kept, err = readKept(ctx, w.db); err != nil {
		return nil, err
	}
	if e.sessions, err = readSessions(ctx, w.db); err != nil {
		return nil, err
	}
	if err := w.db.QueryRow(ctx, `show server_version`).Scan(&c.postgres); err != nil {
		return nil, fmt.Errorf("read the server's version: %w", err)
	}
	v := reach(e, c)
	for name, f := range v.Subscriptions {
		if f.LongestStallMS > 0 {
			w.say("%s: the longest wait for a handler was from %.1fs to %.1fs", name, (f.stallFrom - w.start).Seconds(), (f.stallTo - w.start).Seconds())
		}
	}
	h := &historian{db: w.db, ledger: w.ledger, reports: e.reports, faults: e.faults, out: w.out}
	const most = 20
	for i, p := range v.problems {
		if i == most {
			w.say("… and %d more", len(v.problems)-most)
			break
		}
		if err := h.tell(ctx, p); err != nil {
			return nil, err
		}
	}
	if len(w.crew.faults) > 0 {
		logs, _ := filepath.Glob(filepath.Join(w.folder, "worker-*.log"))
		for _, log := range logs {
			if text, err := os.ReadFile(log); err == nil && containsPanic(text) {
				lastWords(log, w.out)
			}
		}
	}
	return v, nil
}
