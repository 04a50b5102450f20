package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

// TestForeignPool gives the worker a pool that an application has made its own in every way: none of that reaches the worker.
func TestForeignPool(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	config := db.Pool.Config()
	hands := func(what string) { t.Errorf("the worker used the application's %s", what) }
	c := config.ConnConfig
	c.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { hands("OnNotification") }
	c.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) { hands("OnNotice") }
	c.OnPgError = func(*pgconn.PgConn, *pgconn.PgError) bool { return false }
	c.StatementCacheCapacity, c.DescriptionCacheCapacity = 0, 0
	c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	c.Tracer = panicky{}
	c.RuntimeParams["client_encoding"] = "LATIN1"
	c.RuntimeParams["statement_timeout"] = "5000" // it is in force while AfterConnect runs
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "int8", OID: pgtype.Int8OID, Codec: pgtype.TextCodec{}})
		for _, sql := range []string{"listen theirs", "set search_path = pg_temp", "set standard_conforming_strings = off", "set datestyle = german"} {
			if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
				return err
			}
		}
		return nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config) // it opens none by itself
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	l := newLedger()
	var log lines
	w, err := worker.New(pool, worker.Config{PollInterval: 5 * time.Minute, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	err = worker.Handle(w, worker.Subscription{Name: "s", Topics: everything}, l.handle)
	if err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	for n := range 5 { // which only notifications bring
		for _, channel := range []string{"theirs", outbox.Outbox{}.Channel()} {
			if _, err := db.Pool.Exec(t.Context(), `select pg_notify($1, 'garbage {')`, channel); err != nil {
				t.Fatal(err)
			}
		}
		publish(t, db.Pool, "ä", n, n+1)
		if got := l.waitFor(t, n+1)[n]; got.Key != "ä" {
			t.Errorf("the key is %q", got.Key)
		}
	}
	if log.has("will join again") {
		t.Errorf("a session ended:\n%s", log.String())
	}
}

// panicky is a tracer of the application.
type panicky struct{}

func (panicky) TraceQueryStart(context.Context, *pgx.Conn, pgx.TraceQueryStartData) context.Context {
	panic("the worker used the application's tracer")
}

func (panicky) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// handle is a handler.
func (l *ledger) handle(_ context.Context, e *worker.Event[payload]) error {
	l.add(e)
	return nil
}

// lines is what a logger has written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) has(what string) bool { return strings.Contains(l.String(), what) }

func (l *lines) count(what string) int { return strings.Count(l.String(), what) }

// TestFrozenConnection freezes each connection of a worker in turn: it silently passes nothing, while all others do. Whichever it is,
// what is published is handled within the lease and five seconds, and a line says why it took so long.
func TestFrozenConnection(t *testing.T) {
	t.Parallel()
	const lease = 5 * time.Second
	for _, name := range []string{"worker: control", ": read", ": write", ": bell", ": probe"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := pgtest.New(t)
			ice := newIce(t, db.URL)
			pool, err := pgxpool.New(ctx, ice.url)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			l, tx := newLedger(), newLedger()
			var log lines
			for _, at := range []*pgxpool.Pool{pool, db.Pool} {
				w, err := worker.New(at, worker.Config{Lease: lease, Retention: 100 * time.Second, Logger: slog.New(slog.NewTextHandler(io.MultiWriter(&log, t.Output()), nil))})
				if err != nil {
					t.Fatal(err)
				}
				s := worker.Subscription{Name: "s", Topics: everything}
				if err := worker.Handle(w, s, l.handle); err != nil {
					t.Fatal(err)
				}
				if name == ": read" {
					s := worker.Subscription{Name: "tx", Topics: everything, Timeout: time.Second}
					if err := worker.HandleTx(w, s, func(ctx context.Context, _ pgx.Tx, e *worker.Event[payload]) error { return tx.handle(ctx, e) }); err != nil {
						t.Fatal(err)
					}
				}
				runUntilStopped(t, w)
				eventually(t, 20*time.Second, "it serves", func() bool { return w.Ready() == nil })
			}
			var port int
			eventually(t, 20*time.Second, "the connection is there", func() bool {
				return db.Pool.QueryRow(ctx, `
					select a.client_port from pg_stat_activity a
					where a.datname = current_database() and a.application_name like 'signalbox%' || $1 and a.client_port = any ($2)`,
					name, ice.ports()).Scan(&port) == nil
			})
			publish(t, db.Pool, "", 0, 100)
			l.waitFor(t, 100)
			ice.freeze(port)
			begun := time.Now()
			stalled := stalls(t, db.Conn(t))
			publish(t, db.Pool, "", 100, 740)
			eventually(t, lease+5*time.Second, "all is handled", func() bool {
				return len(l.all()) >= 740 && (name != ": read" || len(tx.all()) >= 740)
			})
			took, away := time.Since(begun).Round(time.Millisecond), stalled()
			t.Logf("all was handled after %v, of which the machine was busy elsewhere for %v", took, away)
			if took-away > lease+5*time.Second {
				t.Errorf("all was handled after %v", took)
			}
			eventually(t, 3*lease, "it is logged", func() bool {
				return log.has("got no answer in time") || log.has("will join again")
			})
			eventually(t, 3*lease, "there is a sentinel", func() bool { // the server believes in the one that left
				_, sentinel := owners(t, db.Pool)
				return sentinel != ""
			})
		})
	}
}

// ice is a network in which single connections freeze.
type ice struct {
	url string

	mu    sync.Mutex
	links map[int]chan struct{} // by port towards the server: closed when it is frozen
	conns []net.Conn
}

func newIce(t *testing.T, server string) *ice {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := &ice{links: map[int]chan struct{}{}}
	target := u.Host
	u.Host = listener.Addr().String()
	i.url = u.String()
	var running sync.WaitGroup
	melted := make(chan struct{})
	pass := func(to, from net.Conn, frozen chan struct{}) {
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			select {
			case <-frozen:
				<-melted
			default:
			}
			if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
				_ = to.Close()
				return
			}
		}
	}
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			frozen := make(chan struct{})
			i.mu.Lock()
			i.links[server.LocalAddr().(*net.TCPAddr).Port] = frozen
			i.conns = append(i.conns, client, server)
			i.mu.Unlock()
			running.Go(func() { pass(server, client, frozen) })
			running.Go(func() { pass(client, server, frozen) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		close(melted)
		i.mu.Lock()
		for _, conn := range i.conns {
			_ = conn.Close()
		}
		i.mu.Unlock()
		running.Wait()
	})
	return i
}

func (i *ice) ports() (ports []int32) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for port := range i.links {
		ports = append(ports, int32(port))
	}
	return ports
}

func (i *ice) freeze(port int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.links[port])
}

// TestFewConnections runs a worker whose role may have just the connections that it serves with: it does, without a doorbell, and
// says so once.
func TestFewConnections(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool := limited(t, db, 3)
	l := newLedger()
	var log lines
	w, err := worker.New(pool, worker.Config{PollInterval: 50 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s := worker.Subscription{Name: "s", Topics: everything}
	if err := worker.Handle(w, s, l.handle); err != nil {
		t.Fatal(err)
	}
	runUntilStopped(t, w)
	eventually(t, 20*time.Second, "it goes on without a doorbell", func() bool { return log.count("goes on without") == 1 })
	for n := range 30 {
		publish(t, db.Pool, "k", n, n+1)
		l.waitFor(t, n+1)
	}
	if log.has("will join again") || log.count("goes on without") != 1 {
		t.Errorf("it did not just go on:\n%s", log.String())
	}
}

// TestTooFewConnections runs a worker that does not get the connections which it needs: Run says so, leaves nothing behind, and has
// not joined meanwhile.
func TestTooFewConnections(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	w, err := worker.New(limited(t, db, 2), worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		s := worker.Subscription{Name: fmt.Sprint("s", n), Topics: everything}
		if err := worker.Handle(w, s, func(context.Context, *worker.Event[payload]) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	err = w.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "too many connections") || !strings.Contains(err.Error(), "the worker needs 3") {
		t.Errorf("Run returns %v", err)
	}
	var joined bool
	if err := db.Pool.QueryRow(t.Context(), `select (select is_called from outbox.workers_id_seq)`).Scan(&joined); err != nil || joined {
		t.Errorf("it joined: %t, %v", joined, err)
	}
}

// limited returns a pool for a role that may have so many connections.
func limited(t *testing.T, db *pgtest.DB, connections int) *pgxpool.Pool {
	t.Helper()
	config := db.Pool.Config()
	role := "limited_" + config.ConnConfig.Database
	for _, sql := range []string{
		fmt.Sprintf("create role %s login password '%s' connection limit %d", role, config.ConnConfig.Password, connections),
		"grant usage on schema outbox to " + role,
		"grant select on public.signalbox_outbox_version to " + role,
		"grant all on all tables in schema outbox to " + role,
		"grant all on all sequences in schema outbox to " + role,
	} {
		if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, sql := range []string{"drop owned by " + role, "drop role " + role} {
			if _, err := db.Pool.Exec(context.Background(), sql); err != nil {
				t.Error(err)
			}
		}
	})
	config.ConnConfig.User = role
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// TestRefusedSetting runs a worker whose role has a setting that it may not change, and with which the outbox's foreign keys do
// nothing: Run says so, and how to get out.
func TestRefusedSetting(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool := limited(t, db, 5)
	if _, err := db.Pool.Exec(t.Context(), "alter role "+pool.Config().ConnConfig.User+" set session_replication_role = replica"); err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Handle(w, worker.Subscription{Name: "s", Topics: everything}, newLedger().handle); err != nil {
		t.Fatal(err)
	}
	err = w.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), `"session_replication_role"`) || !strings.Contains(err.Error(), "alter role … reset") {
		t.Errorf("Run returns %v", err)
	}
}

// TestPoolFunctionsBreak has the functions of the application's pool panic, and end their goroutine, at first and while a worker serves:
// Run says so, or goes on trying, and the process lives.
func TestPoolFunctionsBreak(t *testing.T) {
	t.Parallel()
	for how, broken := range map[string]func(){"panic": func() { panic("out of order") }, "goexit": runtime.Goexit} {
		for _, place := range []string{"BeforeConnect", "AfterConnect"} {
			t.Run(how+" in "+place, func(t *testing.T) {
				t.Parallel()
				db := pgtest.New(t)
				config := db.Pool.Config()
				if place == "BeforeConnect" {
					config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { broken(); return nil }
				} else {
					config.AfterConnect = func(context.Context, *pgx.Conn) error { broken(); return nil }
				}
				pool, err := pgxpool.NewWithConfig(t.Context(), config) // which connects when it is used
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(pool.Close)
				w, err := worker.New(pool, worker.Config{Logger: testLogger(t)})
				if err != nil {
					t.Fatal(err)
				}
				if err := worker.Handle(w, worker.Subscription{Name: "s", Topics: everything}, func(context.Context, *worker.Event[payload]) error { return nil }); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() {
					defer close(ended)
					ended <- w.Run(t.Context())
				}()
				select {
				case err := <-ended:
					want := map[string]string{"panic": "out of order", "goexit": "Goexit"}[how]
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("Run returned %v", err)
					}
				case <-time.After(patience):
					t.Error("Run does not return")
				}
			})
		}
	}
}
