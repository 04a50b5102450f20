package worker

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A connector opens connections that belong to the worker and not to the pool whose configuration it has: they are held for
// long, and carry session locks and LISTEN.
type connector struct{ config *pgxpool.Config }

// connectTimeout bounds each attempt to connect, and statements of which nobody expects that they wait.
const connectTimeout = 5 * time.Second

// sessionSetup makes the server notice within seconds that this process is gone: until then, its locks stay. A settle that
// hangs with its process must not hold up an eviction for long either.
const sessionSetup = `
select set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false),
       set_config('tcp_keepalives_count', '3', false), set_config('idle_in_transaction_session_timeout', '10s', false)`

// open returns a connection for a purpose, which PostgreSQL's pg_stat_activity shows, and whether it reaches PostgreSQL
// directly. A pooling proxy hands out process ids of its own.
func (c connector) open(ctx context.Context, purpose string) (conn *pgx.Conn, direct bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	config := c.config.ConnConfig.Copy()
	config.RuntimeParams["application_name"] = "signalbox " + purpose
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement // binary results, prepared once
	// A handler's statement that runs into its timeout is cancelled, and not cut off: the connection is the subscription's.
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: time.Second}
	}
	if c.config.BeforeConnect != nil {
		if err := c.config.BeforeConnect(ctx, config); err != nil {
			return nil, false, fmt.Errorf("connect: %w", err)
		}
	}
	if conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return nil, false, fmt.Errorf("connect: %w", err)
	}
	if direct, err = setUp(ctx, conn); err != nil {
		shut(conn)
		return nil, false, fmt.Errorf("set up connection: %w", err)
	}
	return conn, direct, nil
}

// setUp prepares a connection that reaches PostgreSQL directly, and reports whether it does.
func setUp(ctx context.Context, conn *pgx.Conn) (direct bool, err error) {
	var pid uint32
	if err := conn.QueryRow(ctx, `select pg_backend_pid()`).Scan(&pid); err != nil {
		return false, err
	}
	if pid != conn.PgConn().PID() {
		return false, nil
	}
	if _, err := conn.Exec(ctx, sessionSetup); err != nil {
		return false, err
	}
	// Where the server's platform cannot, keepalives have to do.
	_, _ = conn.Exec(ctx, `select set_config('client_connection_check_interval', '2s', false)`)
	return true, nil
}

// allowIdle lets a transaction wait for its handler, for as long as that may take.
func allowIdle(ctx context.Context, conn *pgx.Conn, timeout time.Duration) error {
	idle := "0"
	if timeout != NoTimeout {
		idle = strconv.FormatInt((timeout + 10*time.Second).Milliseconds(), 10)
	}
	if _, err := conn.Exec(ctx, `select set_config('idle_in_transaction_session_timeout', $1, false)`, idle); err != nil {
		return fmt.Errorf("set up connection: %w", err)
	}
	return nil
}

// shut closes a connection without waiting for a server that may not answer.
func shut(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
