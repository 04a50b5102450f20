package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/internal/settings"
	"github.com/signalbox-go/signalbox/outbox"
)

// Database is the part of a command's flags about its database. Embed it. There is no default: a command that wrote to
// whatever happens to listen on port 5432 would be a nasty surprise.
type Database struct {
	DatabaseURL string        `env:"DATABASE_URL" placeholder:"URL" help:"PostgreSQL to use: postgres://user:password@host:5432/database."`
	Outbox      outbox.Outbox `env:"OUTBOX_NAME" placeholder:"NAME" help:"Which of the database's outboxes, by the name of its schema. By default outbox."`
}

const (
	// Enough that commits share an fsync, few enough that a dozen processes fit PostgreSQL's default of 100.
	maxConns = 16
	// Else a host that swallows packets holds a connection attempt for minutes.
	connectTimeout = 5 * time.Second
)

// Connect returns a pool of connections to the database at url, having made sure that it answers. The pool is the
// caller's to close. Its size is 16 and its connect timeout 5 seconds unless url says otherwise (pool_max_conns,
// connect_timeout).
//
// The sessions have the settings that the commands were written for, whatever url, the role or the database say; behind a pooling
// proxy, they are what the proxy gives.
//
// An error is one line for whoever wrote the url, and never has the password in it.
func Connect(ctx context.Context, url string) (*pgxpool.Pool, error) {
	if url == "" {
		return nil, errors.New(`DATABASE_URL is not set: set it to postgres://user:password@host:5432/database; ` +
			`without a PostgreSQL of your own, "outbox db" starts one and "outbox demo" shows everything at once`)
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, malformed(reason(err))
	}
	if strings.Contains(config.ConnConfig.Database, "@") {
		// A slash in the password ends the host early: half of the password would pass as the port, and be printed below.
		return nil, malformed("its host has no end")
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = maxConns
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	config.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := settings.Apply(ctx, conn.PgConn(), settings.Essential, settings.Own)
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("make a pool of connections: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, settings.ErrRefused):
			return nil, err
		}
		return nil, unreachable(err, &config.ConnConfig.Config)
	}
	return pool, nil
}

func malformed(reason string) error {
	return fmt.Errorf("DATABASE_URL is malformed (%s): write postgres://user:password@host:5432/database, "+
		"with %%XX for special characters in the password", reason)
}

// reason is what pgx says about an url without the url itself, whose password it can mask only where it recognises it.
func reason(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, "`: "); i >= 0 {
		return text[i+len("`: "):]
	}
	return "it cannot be parsed"
}

// unreachable turns pgx's account of every address it tried into the one thing to do about it.
func unreachable(err error, config *pgconn.Config) error {
	address := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	if network, socket := pgconn.NetworkAddress(config.Host, config.Port); network == "unix" {
		address = socket
	}
	if errors.Is(err, pgconn.ErrStandbyConnection) || errors.Is(err, pgconn.ErrReadOnlyConnection) {
		return errors.New("no host in DATABASE_URL answers as its target_session_attrs demands: promote a standby, start the primary, or correct DATABASE_URL")
	}
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		if _, reason, found := strings.Cut(plain.Line(err.Error()), "tls error: "); found { // pgx has no type for it
			return fmt.Errorf("PostgreSQL at %s cannot be reached with TLS (%s): correct sslmode and its certificates in DATABASE_URL", address, reason)
		}
		return fmt.Errorf("no PostgreSQL answers at %s (%s): start it, or correct DATABASE_URL", address, cause(err))
	}
	switch refused.Code {
	case pgerrcode.InvalidPassword:
		return fmt.Errorf("PostgreSQL at %s refuses the password of user %q: correct it in DATABASE_URL", address, config.User)
	case pgerrcode.InvalidAuthorizationSpecification:
		return fmt.Errorf("PostgreSQL at %s refuses user %q (%s): correct DATABASE_URL", address, config.User, refused.Message)
	case pgerrcode.InvalidCatalogName:
		return fmt.Errorf("PostgreSQL at %s has no database %q: create it, or correct DATABASE_URL", address, config.Database)
	}
	return fmt.Errorf("PostgreSQL at %s refuses the connection: %s", address, refused.Message)
}

// cause is the innermost reason of a failed connection attempt, such as "connection refused".
func cause(err error) string {
	var (
		dns  *net.DNSError
		dial *net.OpError
	)
	switch {
	case errors.As(err, &dns):
		return fmt.Sprintf("%s: %s", dns.Name, dns.Err)
	case errors.Is(err, context.DeadlineExceeded):
		return "it does not answer in time"
	case errors.As(err, &dial):
		for err = dial; errors.Unwrap(err) != nil; {
			err = errors.Unwrap(err)
		}
		return err.Error()
	}
	return plain.Line(err.Error())
}
