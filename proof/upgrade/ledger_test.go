package upgrade_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/proc"
)

// A handling is one call of the handler "log", as its worker's log says.
type handling struct {
	id     int64
	key    string
	at     time.Time
	worker *running
}

// A ledger has what producers acknowledged and what workers handled, outside of the database.
type ledger struct {
	mu           sync.Mutex
	acknowledged map[int64]bool
	handlings    []handling
}

// A running program of a release.
type running struct {
	*proc.Process
	ledger  *ledger
	handled atomic.Int64
	// again is set where events may be repeated: it was killed, or lost its session.
	again atomic.Bool

	mu      sync.Mutex
	rest    []byte // of a line
	address string // of a producer
	said    []string
}

// Write takes a log.
func (p *running) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = append(p.rest, text...)
	for {
		line, rest, whole := bytes.Cut(p.rest, []byte("\n"))
		if !whole {
			return len(text), nil
		}
		p.line(line)
		p.rest = slices.Clone(rest)
	}
}

func (p *running) line(text []byte) {
	var line struct {
		Msg     string
		Time    time.Time
		Name    string
		Address string
		EventID int64 `json:"event_id"`
	}
	if json.Unmarshal(text, &line) != nil || line.Msg != "notification received" {
		p.said = append(p.said, string(text))
	}
	switch line.Msg {
	case "notification received":
		p.ledger.mu.Lock()
		p.ledger.handlings = append(p.ledger.handlings, handling{line.EventID, line.Name, line.Time, p})
		p.ledger.mu.Unlock()
		p.handled.Add(1)
	case "listening":
		p.address = line.Address
	case "stopped serving, will join again":
		p.again.Store(true)
	}
}

func (p *running) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.said, "\n")
}

// stop ends the program in good order.
func (p *running) stop(t *testing.T) {
	t.Helper()
	p.Signal(syscall.SIGTERM)
	if state := p.State(); !state.Success() {
		t.Errorf("it ended with %v: %s", state, p.log())
	}
}

// kill ends the program at once.
func (p *running) kill() {
	p.again.Store(true)
	p.Kill()
}

// start starts a program of a release.
func (p place) start(t *testing.T, l *ledger, release, program string, args ...string) *running {
	t.Helper()
	r := &running{ledger: l}
	var err error
	r.Process, err = proc.Start(t.Context(), proc.Config{
		Program: filepath.Join(release, program), Args: append(args, "--log-format", "json"), Env: []string{"DATABASE_URL=" + p.url}, Stderr: r, Group: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Kill()
		if t.Failed() {
			t.Logf("%s: %s", filepath.Join(filepath.Base(release), program), r.log())
		}
	})
	return r
}

// traffic is published over producers, by some publishers with keys of their own.
type traffic struct {
	ledger    *ledger
	producers atomic.Pointer[[]*running]
}

// over has all that is published from now on go over these producers.
func (f *traffic) over(t *testing.T, producers ...*running) {
	t.Helper()
	for _, p := range producers {
		eventually(t, "the producer listens", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.address != "" })
	}
	f.producers.Store(&producers)
}

// run publishes until the returned function is called.
func (f *traffic) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var publishers sync.WaitGroup
	for i := range 4 {
		publishers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				f.publish(ctx, fmt.Sprintf("publisher %d, key %d", i, n%5), n)
				time.Sleep(rand.N(10 * time.Millisecond)) // a pace, and no wait for anything
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); publishers.Wait() })
	t.Cleanup(stop)
	return stop
}

// publish publishes an event. Without an answer, it may have been published or not.
func (f *traffic) publish(ctx context.Context, key string, n int) {
	producers := *f.producers.Load()
	body := fmt.Sprintf(`{"name": %q, "value": %d}`, key, n)
	request, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, "http://"+producers[rand.N(len(producers))].address+"/ingest", strings.NewReader(body))
	if err != nil {
		return
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return
	}
	defer response.Body.Close()
	var answer struct {
		Event struct{ ID int64 }
	}
	if response.StatusCode != http.StatusOK || json.NewDecoder(response.Body).Decode(&answer) != nil {
		return
	}
	f.ledger.mu.Lock()
	f.ledger.acknowledged[answer.Event.ID] = true
	f.ledger.mu.Unlock()
}

// client has no connection that outlives its request: producers come and go.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}

// works waits until each of the programs has handled a good deal more.
func works(t *testing.T, workers ...*running) {
	t.Helper()
	for _, w := range workers {
		before := w.handled.Load()
		eventually(t, "a worker handles more", func() bool { return w.handled.Load() > before+50 })
	}
}

// serves waits until the traffic has gone on over the producers that it has now.
func (f *traffic) serves(t *testing.T) {
	t.Helper()
	count := func() int { f.ledger.mu.Lock(); defer f.ledger.mu.Unlock(); return len(f.ledger.acknowledged) }
	before := count()
	eventually(t, "more is published", func() bool { return count() > before+100 })
}

// settle waits until all is handled, and compares what is in the database with what the ledger has. Nothing may be published any more.
func (l *ledger) settle(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	rows, _ := pool.Query(t.Context(), `select e.id from outbox.events e`)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all is handled, by both subscriptions", func() bool {
		seen := map[int64]bool{}
		l.mu.Lock()
		for _, h := range l.handlings {
			seen[h.id] = true
		}
		l.mu.Unlock()
		var counted int
		if err := pool.QueryRow(t.Context(), `select coalesce(sum(r.count), 0) from public.signal_rollups r`).Scan(&counted); err != nil {
			t.Fatal(err)
		}
		return len(seen) >= len(ids) && counted >= len(ids)
	})
	var counted, deliveries int
	if err := pool.QueryRow(t.Context(), `
		select (select sum(r.count) from public.signal_rollups r), (select count(*) from outbox.deliveries)`).Scan(&counted, &deliveries); err != nil {
		t.Fatal(err)
	}
	if counted != len(ids) {
		t.Errorf("%d events were published, and rollups count %d", len(ids), counted)
	}
	if deliveries > 0 {
		t.Errorf("%d deliveries are left", deliveries)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.acknowledged {
		if !slices.Contains(ids, id) {
			t.Errorf("event %d was acknowledged, and is not there", id)
		}
	}
	slices.SortStableFunc(l.handlings, func(a, b handling) int { return a.at.Compare(b.at) })
	times, sure, last := map[int64]int{}, map[int64]int{}, map[string]int64{}
	repeated := 0
	for _, h := range l.handlings {
		if times[h.id]++; times[h.id] > 1 {
			repeated++
		} else if h.id < last[h.key] {
			t.Errorf("event %d of %q came after event %d", h.id, h.key, last[h.key])
		}
		last[h.key] = max(last[h.key], h.id)
		if !h.worker.again.Load() {
			if sure[h.id]++; sure[h.id] > 1 {
				t.Errorf("event %d was repeated, and no worker that had it was killed", h.id)
			}
		}
	}
	for _, id := range ids {
		if times[id] == 0 {
			t.Errorf("event %d was lost", id)
		}
	}
	if len(times) != len(ids) {
		t.Errorf("%d events were handled, of %d", len(times), len(ids))
	}
	t.Logf("%d events, of which %d were acknowledged, and %d repeated because of a kill", len(ids), len(l.acknowledged), repeated)
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}
