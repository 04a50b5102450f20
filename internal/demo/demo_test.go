package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
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
)

// config is of a demo in a test: quiet, on a port of its own.
func config(t *testing.T, pool *pgxpool.Pool) Config {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	board, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Pool: pool, Listener: listener, Dashboard: board, For: time.Second, Rate: 50, Workers: 2,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Out: t.Output(), Patience: time.Minute,
	}
}

// subscriptions lists what is there.
func subscriptions(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	var names string
	err := db.Pool.QueryRow(t.Context(), `select coalesce(string_agg(s.name, ' ' order by s.name), '') from outbox.subscriptions s`).Scan(&names)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// complete fails the test unless each subscription got n events once.
func complete(t *testing.T, r *Report, n int) {
	t.Helper()
	if r.Published != n || len(r.Subscriptions) != 2 {
		t.Errorf("%d events published to %d subscriptions, want %d to 2", r.Published, len(r.Subscriptions), n)
	}
	for label, tally := range r.Subscriptions {
		if tally.Delivered != n || tally.Duplicates != 0 || tally.Missing != 0 {
			t.Errorf("%s: %d delivered, %d duplicates, %d missing of %d", label, tally.Delivered, tally.Duplicates, tally.Missing, n)
		}
	}
}

// In somebody's database, two demos and other publishers do not get in each other's way, and nothing stays behind.
func TestTwoDemosInOneDatabase(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const old = `insert into outbox.events (topic, payload) select 'signals.old', to_jsonb(n) from generate_series(1, 100) n`
	if _, err := db.Pool.Exec(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Subscribe(t.Context(), db.Pool, "log", []string{">"}, outbox.FromBeginning); err != nil {
		t.Fatal(err)
	}
	// What a killed demo left long ago, and one that may be about to start its workers.
	for _, name := range []string{"demo-aaaaaa-log", "demo-bbbbbb-audit"} {
		if _, err := engine.Subscribe(t.Context(), db.Pool, name, topics, outbox.FromNow); err != nil {
			t.Fatal(err)
		}
	}
	const ago = `update outbox.subscriptions set created_at = now() - interval '2 minutes' where name = 'demo-aaaaaa-log'`
	if _, err := db.Pool.Exec(t.Context(), ago); err != nil {
		t.Fatal(err)
	}

	var demos sync.WaitGroup
	for range 2 {
		demos.Go(func() {
			report, err := Run(t.Context(), config(t, db.Pool))
			if err != nil {
				t.Errorf("demo: %v", err)
				return
			}
			if report.own < 10 || report.Latency.P50 <= 0 || report.Latency.P99 < report.Latency.P50 {
				t.Errorf("%d requests were stored, latency %+v", report.own, report.Latency)
			}
			complete(t, report, report.own)
		})
	}
	demos.Wait()
	if got := subscriptions(t, db); got != "demo-bbbbbb-audit log" {
		t.Errorf("subscriptions left: %s", got)
	}
}

// story keeps what is told, and tells when a text is in it.
type story struct {
	mu   sync.Mutex
	told bytes.Buffer
	on   string
	seen chan struct{}
}

func (s *story) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told.Write(b)
	if s.on != "" && strings.Contains(s.told.String(), s.on) {
		s.on = ""
		close(s.seen)
	}
	return len(b), nil
}

// Other people's requests to the demo's producer count; what they write into the log past it is shown, and does not.
func TestOthersTakePart(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	cfg := config(t, db.Pool)
	cfg.OwnURL, cfg.For, cfg.Rate = db.URL, 0, 0
	begun := &story{on: "workers serve", seen: make(chan struct{})}
	cfg.Out = begun
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		defer stop()
		<-begun.seen
		site := siteOf(cfg.Listener.Addr())
		for _, request := range []struct{ path, contentType, body string }{
			{"/ingest", "", ""},
			{"/ingest", "application/json", `{"name": "old", "value": 1, "timestamp": "2001-01-01T00:00:00Z"}`},
			{"/ingest", "application/json", `{"name": "evil \u001b[2J", "value": 1}`},
			{"/ingest", "application/json", `{"name": "", "value": 1}`}, // refused
			{"/ingest/batch", "application/x-ndjson", "{\"name\": \"a\", \"value\": 1}\n{\"name\": \"b\", \"value\": 2}\n"},
		} {
			response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(newRequest(t, site+request.path, request.contentType, request.body))
			if err != nil {
				t.Errorf("%s: %v", request.path, err)
				return
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		if _, err := db.Pool.Exec(t.Context(), `insert into outbox.events (topic, payload) values ('signals.by.hand', '[]')`); err != nil {
			t.Error(err)
		}
		begun.mu.Lock()
		begun.on, begun.seen = "signals.by.hand", make(chan struct{})
		if strings.Contains(begun.told.String(), begun.on) {
			close(begun.seen)
			begun.on = ""
		}
		seen := begun.seen
		begun.mu.Unlock()
		<-seen
	}()
	report, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	complete(t, report, 5)
	if report.own != 0 || report.passed != 1 || (report.Latency != Quantiles{}) {
		t.Errorf("%d own, %d past the producer, latency %+v", report.own, report.passed, report.Latency)
	}
	if strings.Contains(begun.told.String(), "0.0 ms") {
		t.Errorf("latencies that nobody measured are told:\n%s", begun.told.String())
	}
	if strings.Contains(begun.told.String(), "\x1b") {
		t.Error("a name from outside reached the terminal as it was")
	}
	// The database is the demo's own: the subscriptions may stay, with their plain names.
	if got := subscriptions(t, db); got != "audit log" {
		t.Errorf("subscriptions: %s", got)
	}
}

func newRequest(t *testing.T, url, contentType, body string) *http.Request {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	return request
}

// The verdict must be able to be bad: here, every tenth event goes where nobody subscribes, and clients are told that it
// is stored.
func TestMissingEventsAreFound(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const stray = `
		create function public.stray() returns trigger language plpgsql as $$
		begin
		    if new.id % 10 = 0 then new.topic := 'elsewhere'; end if;
		    return new;
		end
		$$;
		create trigger stray before insert on outbox.events for each row execute function public.stray()`
	if _, err := db.Pool.Exec(t.Context(), stray); err != nil {
		t.Fatal(err)
	}
	cfg := config(t, db.Pool)
	cfg.Patience = 8 * time.Second // as long as a busy machine may need for those that arrive
	report, err := Run(t.Context(), cfg)
	if !errors.Is(err, ErrIncomplete) || report == nil {
		t.Fatalf("got %v, want %v", err, ErrIncomplete)
	}
	for label, tally := range report.Subscriptions {
		if want := report.Published / 10; tally.Missing != want || tally.Delivered != report.Published-want {
			t.Errorf("%s: %d delivered and %d missing of %d", label, tally.Delivered, tally.Missing, report.Published)
		}
	}
	if got := subscriptions(t, db); got != "" {
		t.Errorf("subscriptions left: %s", got)
	}
}

// PostgreSQL is killed and comes back in the middle: requests fail, some without anybody knowing whether they were
// stored. The books still balance.
func TestDatabaseIsKilled(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	url := server.URL("postgres")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(apply.Up(t.Context(), conn, migrations.Outbox), apply.Up(t.Context(), conn, migrations.Signals), conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()

	cfg := config(t, pool)
	cfg.For, cfg.Rate = 4*time.Second, 100
	begun := &story{on: "handled by log and audit", seen: make(chan struct{})} // the first second is over
	cfg.Out = io.MultiWriter(begun, t.Output())
	killed := make(chan error, 1)
	go func() {
		<-begun.seen
		err := syscall.Kill(server.Pid(), syscall.SIGKILL)
		killed <- errors.Join(err, server.Restart(t.Context()))
	}()
	report, err := Run(t.Context(), cfg)
	if failure := <-killed; failure != nil {
		t.Fatal(failure)
	}
	if err != nil {
		t.Fatal(err)
	}
	if report.failed == 0 || report.own == 0 {
		t.Errorf("%d requests failed and %d were stored: the kill was beside the traffic", report.failed, report.own)
	}
	for label, tally := range report.Subscriptions {
		if tally.Missing != 0 || tally.Delivered != report.Published {
			t.Errorf("%s: %d delivered, %d missing of %d", label, tally.Delivered, tally.Missing, report.Published)
		}
	}
	// What counts as published is what the log has, no more and no less.
	var logged int
	if err := pool.QueryRow(t.Context(), `select count(*) from outbox.events`).Scan(&logged); err != nil || logged != report.Published {
		t.Errorf("the log has %d events (%v), %d were counted", logged, err, report.Published)
	}
}

// A demo that cannot begin says why, and leaves nothing.
func TestCannotBegin(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	t.Run("no schema", func(t *testing.T) {
		t.Parallel()
		if _, err := Run(t.Context(), config(t, pgtest.NewEmpty(t).Pool)); err == nil {
			t.Error("no error")
		}
	})
	t.Run("workers cannot start", func(t *testing.T) {
		t.Parallel()
		foreign := pgtest.New(t)
		if _, err := foreign.Pool.Exec(t.Context(), `update outbox.cluster set system_identifier = 1`); err != nil {
			t.Fatal(err)
		}
		if _, err := Run(t.Context(), config(t, foreign.Pool)); !errors.Is(err, outbox.ErrForeignCluster) {
			t.Errorf("got %v", err)
		}
		if got := subscriptions(t, foreign); got != "" {
			t.Errorf("subscriptions left: %s", got)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cfg := config(t, db.Pool)
		told := &story{on: "producer", seen: make(chan struct{})}
		cfg.Out = told
		go func() { <-told.seen; cancel() }()
		if _, err := Run(ctx, cfg); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if got := subscriptions(t, db); got != "" {
			t.Errorf("subscriptions left: %s", got)
		}
		if _, err := net.Dial("tcp", cfg.Listener.Addr().String()); err == nil {
			t.Error("the port is still open")
		}
	})
}

// The dashboard is there for as long as the demo runs, and changes nothing in somebody's database.
func TestDashboard(t *testing.T) {
	t.Parallel()
	cfg := config(t, pgtest.New(t).Pool)
	done := make(chan error, 1)
	go func() {
		_, err := Run(t.Context(), cfg)
		done <- err
	}()
	site := siteOf(cfg.Dashboard.Addr())
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(site + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var page bytes.Buffer
	if _, err := page.ReadFrom(response.Body); err != nil || response.StatusCode != http.StatusOK || !strings.Contains(page.String(), "read-only") {
		t.Errorf("%s, %v\n%s", response.Status, err, &page)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
