package worker_test

import (
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/embeddedpg"
	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestFailover promotes a standby that was behind, and leads a worker to it that has read, handled and settled what the
// standby never had. There, ids and transaction ids come again, below where the worker was. It goes on where the log is: what
// is new is handled, whatever its id, and what the standby knew to be settled is not handled again.
func TestFailover(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	pool := migrated(t, server)
	standby := pgtest.Standby(t, server)
	proxy := newSwitchboard(t, server)

	proxied, err := pgxpool.New(t.Context(), proxy.url(t, server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxied.Close)
	const (
		kept    = 50  // events that the standby gets
		missed  = 200 // and that it does not
		pending = 900 // the number of one whose transaction is open when the standby is cut off
		held    = 901 // and of one that is being handled when the worker is led away
		again   = 1000
	)
	l, release := newLedger(), make(chan struct{})
	sub := worker.Subscription{Name: "s", Topics: everything, ParkAfter: time.Minute}
	start(t, proxied, worker.Config{}, sub, func(_ context.Context, e *worker.Event[payload]) error {
		l.add(e)
		if e.Payload.N == held {
			<-release
		}
		return nil
	})
	open, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	publish(t, open, "", pending, pending+1)
	publish(t, pool, "", 0, kept)
	l.waitFor(t, kept)
	eventually(t, 30*time.Second, "all is settled", func() bool { return settledLag(t, pool) })
	follow(t, server, standby)

	// From here on, the standby is behind.
	lonely := connect(t, standby)
	for _, sql := range []string{`alter system set primary_conninfo = ''`, `select pg_reload_conf()`} {
		if _, err := lonely.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 30*time.Second, "it is cut off", func() (cut bool) {
		return lonely.QueryRow(t.Context(), `select not exists (select from pg_stat_wal_receiver)`).Scan(&cut) == nil && cut
	})
	publish(t, pool, "", kept, kept+missed)
	if err := open.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.waitFor(t, kept+missed+1)
	eventually(t, 30*time.Second, "all is settled", func() bool { return settledLag(t, pool) })
	publish(t, pool, "", held, held+1)
	reached := l.waitFor(t, kept+missed+2)[kept+missed+1].ID

	promote(t, standby)
	proxy.to(t, standby)
	close(release) // its success is news of another history
	const fresh = 2 * missed
	var first int64
	publish(t, lonely, "", again, again+fresh)
	if err := lonely.QueryRow(t.Context(), `select min(id) from outbox.events where (payload ->> 'n')::integer >= $1`, again).Scan(&first); err != nil {
		t.Fatal(err)
	}
	if first >= reached {
		t.Fatalf("the first new event is %d, and the worker has seen %d: no id comes again", first, reached)
	}
	t.Logf("the worker had seen %d, and the next event is %d", reached, first)
	l.waitFor(t, kept+missed+2+fresh)
	eventually(t, 30*time.Second, "all is settled", func() bool { return settledAll(t, lonely) })
	times := map[int]int{}
	for _, e := range l.all() {
		times[e.Payload.N]++
	}
	for n, n2 := range times {
		if n2 != 1 {
			t.Errorf("event %d was handled %d times", n, n2)
		}
	}
	if want := kept + missed + 2 + fresh; len(times) != want {
		t.Errorf("%d events were handled, want %d", len(times), want)
	}
}

// A switchboard is an address that leads to one server or another.
type switchboard struct {
	listener net.Listener

	mu     sync.Mutex
	target string
	conns  map[net.Conn]bool
}

func newSwitchboard(t *testing.T, server *embeddedpg.Server) *switchboard {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &switchboard{listener: listener, target: parseURL(t, server).Host, conns: map[net.Conn]bool{}}
	var lines sync.WaitGroup
	lines.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			lines.Go(func() { s.connect(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.cut()
		lines.Wait()
	})
	return s
}

// connect passes on what is said until one of the two hangs up.
func (s *switchboard) connect(caller net.Conn) {
	defer caller.Close()
	s.mu.Lock()
	callee, err := net.Dial("tcp", s.target)
	if err == nil {
		s.conns[caller] = true
	}
	s.mu.Unlock()
	if err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(caller, callee)
		_ = caller.Close()
	})
	_, _ = io.Copy(callee, caller)
	_ = callee.Close()
	back.Wait()
	s.mu.Lock()
	delete(s.conns, caller)
	s.mu.Unlock()
}

// to leads whoever calls from now on to a server, and hangs up on the others.
func (s *switchboard) to(t *testing.T, server *embeddedpg.Server) {
	t.Helper()
	s.mu.Lock()
	s.target = parseURL(t, server).Host
	s.mu.Unlock()
	s.cut()
}

func (s *switchboard) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// url is a server's, by way of the switchboard.
func (s *switchboard) url(t *testing.T, server *embeddedpg.Server) string {
	t.Helper()
	u := parseURL(t, server)
	u.Host = s.listener.Addr().String()
	return u.String()
}

func parseURL(t *testing.T, server *embeddedpg.Server) *url.URL {
	t.Helper()
	u, err := url.Parse(server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	return u
}
