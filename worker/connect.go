package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/guard"
	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/settings"
)

// A connector opens connections that are the worker's, watches that they answer, and gives them up. They are held for long, and
// carry session locks and LISTEN. Of the application's pool they have what says where to connect and as whom; what the worker's
// statements depend on, it sets itself.
type connector struct {
	config *pgxpool.Config
	outbox naming.Name
	log    *slog.Logger
	lease  time.Duration

	mu       sync.Mutex
	allow    time.Duration // for a statement,
	until    time.Time     // so long
	underway map[*statement]bool
}

// connectTimeout bounds each attempt to connect, and statements that are not expected to wait.
const connectTimeout = 5 * time.Second

// longestPatience is where the time for a statement stops growing.
const longestPatience = 10 * time.Minute

// sessionSettings makes the server notice within seconds that this process is gone: until then, its locks stay. A settle that
// hangs with its process must not hold up an eviction for long either.
var sessionSettings = []settings.Setting{
	{Name: "tcp_keepalives_idle", Value: "5"},
	{Name: "tcp_keepalives_interval", Value: "2"},
	{Name: "tcp_keepalives_count", Value: "3"},
	{Name: "idle_in_transaction_session_timeout", Value: "10s"},
}

// A connection is one to be opened.
type connection struct {
	*pgx.ConnConfig
	lent    bool          // to handlers, whose statements are on it
	atLeast time.Duration // that a statement may take
}

// forHandlers is for a connection that handlers get to use, whose attempts may take so long: their types, their search path and
// their tracer stay, and a statement that runs into its context's end is cancelled, and not cut off with the connection.
func forHandlers(timeout time.Duration) func(*connection) {
	return func(c *connection) {
		c.lent, c.atLeast = true, unlimited
		if timeout != unlimited {
			c.atLeast = timeout + handlerGrace
		}
	}
}

// handlerGrace is how much longer than a handler may take its connection waits for it.
const handlerGrace = 10 * time.Second

// open returns a connection with a name, which PostgreSQL's pg_stat_activity shows, and whether it reaches PostgreSQL
// directly.
func (c *connector) open(ctx context.Context, name string, options ...func(*connection)) (conn *pgx.Conn, direct bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if conn, direct, err = c.dial(ctx, name, pgx.QueryExecModeCacheStatement, options); err != nil || direct {
		return conn, direct, err
	}
	// A statement that is prepared through a proxy is another client's the next moment.
	shut(conn)
	return c.dial(ctx, name, pgx.QueryExecModeCacheDescribe, options)
}

// openOwn is open for a connection that has none but the project's statements, which are about the worker's outbox.
func (c *connector) openOwn(ctx context.Context, name string) (_ naming.Conn, direct bool, err error) {
	conn, direct, err := c.open(ctx, name)
	if err != nil {
		return nil, false, err
	}
	return c.outbox.Conn(conn), direct, nil
}

func (c *connector) dial(ctx context.Context, name string, mode pgx.QueryExecMode, options []func(*connection)) (_ *pgx.Conn, direct bool, err error) {
	config := connection{ConnConfig: c.config.ConnConfig.Copy()}
	for _, option := range options {
		option(&config)
	}
	if c.config.BeforeConnect != nil {
		if err := ask("before connect", func() error { return c.config.BeforeConnect(ctx, config.ConnConfig) }); err != nil {
			return nil, false, err
		}
	}
	config.own(name, mode, &watch{connector: c, name: name, atLeast: config.atLeast})
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, false, fmt.Errorf("connect: %w", err)
	}
	if direct, err = c.setUp(ctx, conn, config.lent); err != nil {
		shut(conn)
		return nil, false, err
	}
	return conn, direct, nil
}

// own replaces what the application has for its own connections: its handlers and caches, the mode of its statements, how their
// bytes are read. What remains is where to connect and as whom, TLS and the functions that look up, dial and validate included.
func (c *connection) own(name string, mode pgx.QueryExecMode, w *watch) {
	c.DefaultQueryExecMode = mode // binary results, prepared or described once
	c.StatementCacheCapacity, c.DescriptionCacheCapacity = 512, 512
	c.OnNotice, c.OnNotification = nil, nil // with a handler for them, WaitForNotification would return none
	c.OnPgError = func(_ *pgconn.PgConn, err *pgconn.PgError) bool {
		return !strings.EqualFold(err.SeverityUnlocalized, "FATAL")
	}
	c.BuildFrontend = pgproto3.NewFrontend
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		if c.lent {
			return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: time.Second}
		}
		return &pgconn.DeadlineContextWatcherHandler{Conn: conn.Conn()}
	}
	if c.lent && c.Tracer != nil {
		c.Tracer = multitracer.New(c.Tracer, w)
	} else {
		c.Tracer = w
	}
	maps.DeleteFunc(c.RuntimeParams, func(name, _ string) bool { return strings.EqualFold(name, "client_encoding") })
	c.RuntimeParams["client_encoding"] = "UTF8" // proxies know this one: no other can be set behind them
	c.RuntimeParams["application_name"] = name
}

// setUp has the application prepare the connection, with its role or the types that handlers use, and then takes it over.
func (c *connector) setUp(ctx context.Context, conn *pgx.Conn, lent bool) (direct bool, err error) {
	if c.config.AfterConnect != nil {
		if err := ask("after connect", func() error { return c.config.AfterConnect(ctx, conn) }); err != nil {
			return false, err
		}
	}
	lists := [][]settings.Setting{settings.Essential, settings.Own, sessionSettings}
	if lent {
		lists = [][]settings.Setting{settings.Essential, sessionSettings}
	} else {
		*conn.TypeMap() = *pgtype.NewMap() // the application's codecs are for the application's statements
	}
	if direct, err = settings.Apply(ctx, conn.PgConn(), lists...); err != nil {
		return direct, err
	}
	if err := wantPrimary(ctx, conn.PgConn()); err != nil || !direct {
		return direct, err
	}
	// Notifications that it does not wait for would fill the connection, and then the server's queue.
	if _, err := conn.Exec(ctx, `unlisten *`); err != nil {
		return true, fmt.Errorf("set up the session: %w", err)
	}
	// Where the server's platform cannot, keepalives have to do.
	_, _ = conn.Exec(ctx, `select pg_catalog.set_config('client_connection_check_interval', '2s', false)`)
	return true, nil
}

// wantPrimary returns ErrStandby at a server that takes no writes. It prepares nothing, so a proxy does not mind.
func wantPrimary(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, `select pg_catalog.pg_is_in_recovery()`).ReadAll()
	if err != nil {
		return fmt.Errorf("ask whether the server is a standby: %w", err)
	}
	if string(results[0].Rows[0][0]) == "t" {
		return ErrStandby
	}
	return nil
}

// ask calls a function of the application's pool. If it panics, or ends its goroutine, the connection is not to be had.
func ask(what string, call func() error) (err error) {
	if fault := guard.Call(func() { err = call() }); fault != nil {
		err = fault
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// rename changes what pg_stat_activity calls a connection.
func rename(ctx context.Context, conn naming.Conn, name string) error {
	if _, err := conn.Exec(ctx, `select pg_catalog.set_config('application_name', $1, false)`, name); err != nil {
		return fmt.Errorf("rename connection: %w", err)
	}
	return nil
}

// shut closes a connection without waiting for a server that may not answer.
func shut(conn interface{ Close(context.Context) error }) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// A watch gives each statement of a connection a deadline, so that one which silently passes nothing is noticed within the lease.
type watch struct {
	connector *connector
	name      string
	atLeast   time.Duration
}

// A statement is one that is under way.
type statement struct {
	name     string
	lent     bool // its connection is lent to handlers
	patience time.Duration
	begun    time.Time
	cancel   func()
}

// errSilence is why a statement was given up.
var errSilence = errors.New("no answer in time")

// allowed is how long a statement may take: a lease. One that really takes longer would never get done that way, so the time doubles
// with each that is given up, and is a lease again when none was for a while.
func (c *connector) allowed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.allow == 0 || time.Now().After(c.until) {
		c.allow = max(c.lease, connectTimeout)
	}
	return c.allow
}

// gaveUp notes that a statement was given up after so long.
func (c *connector) gaveUp(after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allow = min(2*after, max(longestPatience, after))
	c.until = time.Now().Add(4 * c.allow)
}

// track notes that a statement is under way, or no longer, and reports whether that is news.
func (c *connector) track(s *statement, underway bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.underway[s] == underway {
		return false
	}
	if c.underway == nil {
		c.underway = map[*statement]bool{}
	}
	if underway {
		c.underway[s] = true
	} else {
		delete(c.underway, s)
	}
	return true
}

// overdue returns an error when a statement goes on although its deadline has passed. Nothing should bring that about; but a worker
// whose reader is stuck must not be kept alive by its heartbeats.
func (c *connector) overdue() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.underway {
		if s.lent { // a handler may have left its rows open: that is the handler's fault
			continue
		}
		if took := time.Since(s.begun); took > s.patience+connectTimeout {
			return fmt.Errorf("connection %q: a statement has not ended after %v: %w", s.name, took.Round(time.Second), errSilence)
		}
	}
	return nil
}

func (w *watch) begin(ctx context.Context) context.Context {
	s := &statement{name: w.name, lent: w.atLeast > 0, patience: max(w.atLeast, w.connector.allowed()), begun: time.Now()}
	ctx, cancel := context.WithTimeoutCause(ctx, s.patience, errSilence)
	s.cancel = cancel
	w.connector.track(s, true)
	return context.WithValue(ctx, (*statement)(nil), s)
}

func (w *watch) end(ctx context.Context, err error) {
	s, ok := ctx.Value((*statement)(nil)).(*statement)
	if !ok || !w.connector.track(s, false) { // pgx says it twice of a batch that could not be sent
		return
	}
	if err != nil && errors.Is(context.Cause(ctx), errSilence) {
		if s.patience > w.atLeast {
			w.connector.gaveUp(s.patience)
		}
		w.connector.log.Warn("a connection got no answer in time and is given up", "connection", w.name, "after", s.patience, "error", err)
	}
	s.cancel()
}

// TraceQueryStart begins the time of a statement.
func (w *watch) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return w.begin(ctx)
}

// TraceQueryEnd ends it.
func (w *watch) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	w.end(ctx, data.Err)
}

// TraceBatchStart begins the time of a batch.
func (w *watch) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return w.begin(ctx)
}

// TraceBatchQuery does nothing: a batch has its time as a whole.
func (w *watch) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd ends it.
func (w *watch) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	w.end(ctx, data.Err)
}
