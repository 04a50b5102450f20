package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/brokers/outside"
	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/internal/proxy"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

const (
	lease      = 5 * time.Second
	drainLimit = time.Minute // from the end of the last fault until nothing is left to do
)

// A config is what a run may be told.
type config struct {
	place    place
	length   time.Duration // of the faults and the traffic
	seed     uint64
	rate     float64 // transactions a second
	only     string  // the kind of fault that comes; all of them if empty
	out      io.Writer
	folder   string   // of reports and logs; by default one that is removed when all is well
	relayEnv []string // further variables of relays
}

// A world is everything in a run.
type world struct {
	config
	host       *outside.Host
	server     *embeddedpg.Server
	db         *pgxpool.Pool
	proxy      *proxy.Proxy // between relays and broker
	broker     *broker
	brokerDown sync.Mutex // whoever has it may take the broker down, or needs it
	managing   sync.Mutex // whoever has it changes the broker
	killing    sync.Mutex // whoever has it kills the broker, or cannot have it killed
	ledger     *ledger
	traffic    *traffic
	posts      []*post
	stopPosts  context.CancelFunc
	manned     sync.WaitGroup
	start      time.Time

	mu        sync.Mutex
	processes int
	hits      []hit
	faults    map[string]int
	failures  []string // of processes
}

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.out, "%6.1fs  "+format+"\n", append([]any{time.Since(w.start).Seconds()}, args...)...)
}

func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

func (w *world) hit(h hit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hits = append(w.hits, h)
}

func (w *world) nextProcess() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.processes++
	return w.processes
}

func (w *world) reportsFile() string { return filepath.Join(w.folder, "reports") }

// run makes a world, has it go through the faults, and judges what is left. An error says that this could not be done.
func run(ctx context.Context, cfg config) (v *verdict, err error) {
	w := &world{config: cfg, start: time.Now(), ledger: &ledger{}, faults: map[string]int{}, host: outside.New(context.WithoutCancel(ctx))}
	if w.folder == "" {
		if w.folder, err = os.MkdirTemp("", "signalbox-chaos-"); err != nil {
			return nil, err
		}
		defer func() {
			if err == nil && v.Verdict == passed {
				err = os.RemoveAll(w.folder)
				return
			}
			w.say("reports and logs of the relays are in %s", w.folder)
		}()
	}
	w.say("%s, seed %d: this and the same duration give the same faults again", cfg.place.name, cfg.seed)
	if err = w.build(ctx); err == nil {
		v, err = w.live(ctx)
	}
	return v, errors.Join(err, w.tearDown())
}

// build starts everything but the traffic.
func (w *world) build(ctx context.Context) (err error) {
	w.server, err = embeddedpg.Start(ctx, embeddedpg.Config{Logf: func(format string, args ...any) { w.say(format, args...) }})
	if err != nil {
		return err
	}
	if w.db, err = pgxpool.New(ctx, w.server.URL("postgres")); err != nil {
		return err
	}
	if err := w.db.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return apply.Up(ctx, c.Conn(), migrations.Outbox) }); err != nil {
		return err
	}
	w.say("starting the broker")
	if err := w.host.Do(func(t testing.TB) { w.broker = w.place.start(t, w) }); err != nil {
		return err
	}
	manning, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stopPosts = stop
	for i := range relays {
		p := &post{w: w, name: fmt.Sprint("relay ", i+1), resume: make(chan struct{}, 1)}
		w.posts = append(w.posts, p)
		w.manned.Go(func() { p.man(manning) })
	}
	return w.await(ctx, time.Minute, "the relays serve", func() bool {
		var served bool
		err := w.db.QueryRow(ctx, `select count(*) > 0 and bool_and(l.owner is not null) and count(distinct l.owner) = $1 from outbox.lanes l`, relays).Scan(&served)
		return err == nil && served
	})
}

// open makes the proxy to a broker, and returns where it is.
func (w *world) open(address string) (string, error) {
	var err error
	if w.proxy, err = proxy.New(w.place.name, address); err != nil {
		return "", err
	}
	return w.proxy.Address(), nil
}

func (w *world) await(ctx context.Context, patience time.Duration, what string, condition func() bool) error {
	for start := time.Now(); !condition(); pause(ctx, 20*time.Millisecond) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(start) > patience {
			return fmt.Errorf("not within %v: %s", patience, what)
		}
	}
	return nil
}

func (w *world) tearDown() error {
	if w.stopPosts != nil {
		w.dismiss()
	}
	if w.proxy != nil {
		w.proxy.Close()
	}
	err := w.host.Close()
	if w.db != nil {
		w.db.Close()
	}
	if w.server != nil {
		err = errors.Join(err, w.server.Stop())
	}
	return err
}

// live runs the traffic and the faults, and judges.
func (w *world) live(ctx context.Context) (*verdict, error) {
	plan := schedule(w.place.kinds(), w.seed, w.length, lease, w.only)
	w.say("the relays serve: %d faults are to come in %v", len(plan), w.length)
	w.start = time.Now()
	w.traffic = &traffic{pool: w.db, ledger: w.ledger, seed: w.seed, rate: w.rate, large: w.place.poison}
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	published := make(chan error, 1)
	go func() { published <- w.traffic.run(publishing) }()
	firstFault := time.Now().Add(calm).UnixNano()
	err := w.inject(ctx, plan)
	pause(ctx, w.length-time.Since(w.start))
	stop()
	if err = errors.Join(err, <-published); err != nil {
		return nil, err
	}
	lasted, last := time.Since(w.start), time.Now()
	w.say("the traffic ends: %s", w.ledger.tally())
	ctx = context.WithoutCancel(ctx) // what there is, is judged
	left := ""
	drained := time.Duration(0)
	if err := w.await(ctx, 2*drainLimit, "nothing is left to do", func() bool { left, err = w.left(ctx); return err == nil && left == "" }); err != nil {
		w.say("left to do: %s", cmp.Or(left, fmt.Sprint(err)))
	} else {
		drained = time.Since(last)
		w.say("nothing is left to do, %v after the traffic", drained.Round(time.Millisecond))
	}
	w.dismiss()
	w.stopPosts = nil
	e := evidence{entries: w.ledger.entries, hits: w.hits, firstFault: firstFault}
	if e.reports, err = readReports(w.reportsFile()); err != nil {
		return nil, err
	}
	if e.dead, err = w.dead(ctx); err != nil {
		return nil, err
	}
	w.say("reading what the broker has")
	failed := w.host.Do(func(t testing.TB) {
		reading, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		e.received, err = w.broker.received(reading, t)
	})
	if err = errors.Join(failed, err); err != nil {
		return nil, fmt.Errorf("read what the broker has: %w", err)
	}
	return reach(e, circumstances{
		sink: w.place.name, seed: w.seed, lasted: lasted, drained: drained, faults: w.faults, processes: w.processes, failures: w.failures, say: w.say,
	}), nil
}

// inject runs the schedule to its end, or until ctx ends: then what was begun is over soon.
func (w *world) inject(ctx context.Context, plan []fault) error {
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		errs    []error
	)
	for _, f := range plan {
		if pause(ctx, f.at-time.Since(w.start)); ctx.Err() != nil {
			break
		}
		w.say("FAULT %s for %v", f.kind.name, f.length)
		running.Go(func() {
			from := time.Now()
			err := f.kind.run(ctx, w, &f)
			w.say("over: %s, after %v; %s", f.kind.name, time.Since(from).Round(time.Millisecond), w.ledger.tally())
			w.mu.Lock()
			w.faults[f.kind.name]++
			w.mu.Unlock()
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("%s: %w", f.kind.name, err))
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// left says what is left to do.
func (w *world) left(ctx context.Context) (string, error) {
	status, err := admin.GetStatus(ctx, w.db)
	if err != nil {
		return "", err
	}
	var left []string
	for _, s := range status.Subscriptions {
		if retrying, running := s.Deliveries["retrying"]+s.Deliveries[admin.Blocked], s.Deliveries["running"]; s.Lag.Events+retrying+running > 0 {
			left = append(left, fmt.Sprintf("a lag of %d, %d retrying and %d running", s.Lag.Events, retrying, running))
		}
	}
	return strings.Join(left, "; "), nil
}

// dead returns the reasons of dead letters, by the ids of their events in the database.
func (w *world) dead(ctx context.Context) (map[int64]string, error) {
	dead := map[int64]string{}
	rows, err := w.db.Query(ctx, `select d.event_id, coalesce(d.errors -> -1 ->> 'error', '') from outbox.deliveries d where d.state = $1`, string(outbox.Dead))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var (
			id     int64
			reason string
		)
		if err := rows.Scan(&id, &reason); err != nil {
			return nil, err
		}
		dead[id] = reason
	}
	return dead, rows.Err()
}
