package worker

import (
	"context"
	"fmt"
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
// hangs with its process must not hold up an eviction for long either. A session may be idle for days, and heartbeats of serializable
// transactions would fail because of each other, whatever the database's defaults are.
const sessionSetup = `
select set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false),
       set_config('tcp_keepalives_count', '3', false), set_config('idle_in_transaction_session_timeout', '10s', false),
       set_config('idle_session_timeout', '0', false), set_config('default_transaction_isolation', 'read committed', false)`

// open returns a connection with a name, which PostgreSQL's pg_stat_activity shows, and whether it reaches PostgreSQL
// directly. A pooling proxy hands out process ids of its own.
func (c connector) open(ctx context.Context, name string, options ...func(*pgx.ConnConfig)) (conn *pgx.Conn, direct bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	config := c.config.ConnConfig.Copy()
	config.RuntimeParams["application_name"] = name
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement // binary results, prepared once
	for _, option := range options {
		option(config)
	}
	if conn, err = c.dial(ctx, config); err != nil {
		return nil, false, err
	}
	var pid uint32
	err = conn.QueryRow(ctx, `select pg_backend_pid()`, pgx.QueryExecModeSimpleProtocol).Scan(&pid)
	if direct = pid == conn.PgConn().PID(); err == nil && direct {
		err = setUp(ctx, conn)
	}
	if err != nil {
		shut(conn)
		return nil, false, fmt.Errorf("set up connection: %w", err)
	}
	if direct {
		return conn, true, nil
	}
	// A statement that is prepared through a proxy is another client's the next moment.
	shut(conn)
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	conn, err = c.dial(ctx, config)
	return conn, false, err
}

func (c connector) dial(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	config = config.Copy()
	if c.config.BeforeConnect != nil {
		if err := c.config.BeforeConnect(ctx, config); err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if c.config.AfterConnect != nil { // it may register the types that transactional handlers use
		if err := c.config.AfterConnect(ctx, conn); err != nil {
			shut(conn)
			return nil, fmt.Errorf("after connect: %w", err)
		}
	}
	return conn, nil
}

// setUp prepares a connection that reaches PostgreSQL directly.
func setUp(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, sessionSetup); err != nil {
		return err
	}
	// Where the server's platform cannot, keepalives have to do.
	_, _ = conn.Exec(ctx, `select set_config('client_connection_check_interval', '2s', false)`)
	return nil
}

// cancelStatements has a statement that runs into its context's end cancelled, and not cut off: the connection is the
// subscription's, and the handler's statements are on it.
func cancelStatements(config *pgx.ConnConfig) {
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: time.Second}
	}
}

// shut closes a connection without waiting for a server that may not answer.
func shut(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
