package worker_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestRestartBetweenConnections kills a backend, so that the server restarts itself and loses what was committed last (synchronous_commit
// is off), after the worker has read an event and before it opens the connection that settles it. The worker does not notice: what it has open
// is silent. Another event gets the lost one's id meanwhile. The connection is refused, the lost event is not handled, and the other one is.
func TestRestartBetweenConnections(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	pool := migrated(t, server)
	for _, sql := range []string{
		`create table public.effects (n integer not null)`,
		`alter system set synchronous_commit = off`, `alter system set bgwriter_lru_maxpages = 0`, `select pg_reload_conf()`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	config, err := pgxpool.ParseConfig(server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	var (
		armed         atomic.Bool
		silence       silence
		here, goOn    = make(chan struct{}), make(chan struct{})
		release, once = sync.OnceFunc(func() { close(goOn) }), sync.OnceFunc(func() { close(here) })
	)
	defer release()
	config.ConnConfig.DialFunc = silence.dial
	config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
		if armed.Load() {
			once()
			<-goOn
		}
		return nil
	}
	var log lines
	w, err := worker.New(openPool(t, config), worker.Config{Lease: 30 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	err = worker.HandleTx(w, worker.Subscription{Name: "s", Topics: everything}, func(ctx context.Context, tx pgx.Tx, e *worker.Event[payload]) error {
		_, err := tx.Exec(ctx, `insert into public.effects (n) values ($1)`, e.Payload.N)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	waitArmed(t, pool)

	// From here on nothing is flushed: what is committed is lost with the server.
	if _, err := pool.Exec(t.Context(), `checkpoint`); err != nil {
		t.Fatal(err)
	}
	var backend, writer int
	err = pool.QueryRow(t.Context(), `select pg_backend_pid(), (select a.pid from pg_stat_activity a where a.backend_type = 'walwriter')`).Scan(&backend, &writer)
	if err != nil {
		t.Fatal(err)
	}
	sendSignal(t, syscall.SIGSTOP, writer)
	armed.Store(true) // the handler's connection is opened for its first window
	publish(t, pool, "", 1, 2)
	lost := lastEvent(t, pool)
	select {
	case <-here:
	case <-time.After(30 * time.Second):
		t.Fatal("the handler's connection is not opened")
	}
	silence.begin()
	sendSignal(t, syscall.SIGKILL, backend, writer)
	eventually(t, 60*time.Second, "the server has restarted itself", func() bool {
		var started bool
		return pool.QueryRow(t.Context(), `select not exists (select from pg_stat_activity a where a.pid = $1)`, writer).Scan(&started) == nil && started
	})
	publish(t, pool, "", 2, 3)
	if got := lastEvent(t, pool); got != lost {
		t.Fatalf("the new event is %d, and the lost one was %d: nothing was lost", got, lost)
	}
	armed.Store(false)
	release()
	eventually(t, 30*time.Second, "the worker notices", func() bool {
		return log.has("another server") || log.has("will join again") || slices.Contains(effects(t, pool), 1)
	})
	if !log.has("another server") {
		t.Log("the server took so long that a heartbeat noticed before")
	}
	silence.end()
	eventually(t, 60*time.Second, "an event is handled", func() bool { return len(effects(t, pool)) > 0 && settledAll(t, pool) })
	if got := effects(t, pool); !slices.Equal(got, []int{2}) {
		t.Errorf("the events %v were handled, want 2 alone", got)
	}
}

func sendSignal(t *testing.T, s syscall.Signal, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
	}
}

func lastEvent(t *testing.T, pool *pgxpool.Pool) (id int64) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `select max(e.id) from outbox.events e`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

func effects(t *testing.T, pool *pgxpool.Pool) []int {
	t.Helper()
	rows, _ := pool.Query(t.Context(), `select e.n from public.effects e order by e.n`)
	list, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A silence has connections that were open when it began pass nothing from the server, not even its end, as on a network that drops
// packets.
type silence struct {
	mu    sync.Mutex
	conns []*silentConn
}

func (s *silence) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &silentConn{Conn: conn, ended: make(chan struct{}), due: make(chan struct{})}
	c.end = sync.OnceFunc(func() { close(c.ended) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, c)
	return c, nil
}

func (s *silence) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.silent.Store(true)
	}
}

// end has them be lost.
func (s *silence) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if c.silent.Load() {
			c.end()
		}
	}
}

type silentConn struct {
	net.Conn
	silent atomic.Bool
	ended  chan struct{} // it is closed or lost
	end    func()

	mu  sync.Mutex
	due chan struct{} // is closed when the deadline has changed
	at  time.Time
}

func (c *silentConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.silent.Load() || errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	for {
		c.mu.Lock()
		at, changed := c.at, c.due
		c.mu.Unlock()
		var over <-chan time.Time
		if !at.IsZero() {
			over = time.After(time.Until(at))
		}
		select {
		case <-c.ended:
			return 0, io.EOF
		case <-over:
			return 0, os.ErrDeadlineExceeded
		case <-changed:
		}
	}
}

func (c *silentConn) Write(b []byte) (int, error) {
	if c.silent.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *silentConn) SetDeadline(at time.Time) error {
	err := c.SetReadDeadline(at)
	return errors.Join(err, c.SetWriteDeadline(at))
}

func (c *silentConn) SetReadDeadline(at time.Time) error {
	c.mu.Lock()
	close(c.due)
	c.at, c.due = at, make(chan struct{})
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(at)
}

func (c *silentConn) Close() error {
	c.end()
	return c.Conn.Close()
}
