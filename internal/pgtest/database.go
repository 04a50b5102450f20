package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
)

// A DB is a database for one test. It goes, with all connections to it, when the test ends.
type DB struct {
	URL  string
	Pool *pgxpool.Pool
}

// poolSize leaves room for a test's many publishers. The cluster has 200 connections, and few tests run at once.
const poolSize = 32

// New returns a database with the schemas of both migration sets.
func New(t testing.TB) *DB {
	t.Helper()
	return open(t, shared.migrated)
}

// NewEmpty returns a database without any schema.
func NewEmpty(t testing.TB) *DB {
	t.Helper()
	return open(t, shared.empty)
}

// Conn returns a connection of its own, closed when the test ends.
func (db *DB) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		// The test may have killed it: an error here says nothing.
		_ = conn.Close(ctx)
	})
	return conn
}

// open creates a database, and drops it at the end of the test.
func open(t testing.TB, create func(context.Context) (string, error)) *DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	name, err := create(ctx)
	if err != nil {
		t.Fatalf("create a database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := shared.drop(ctx, name); err != nil {
			t.Errorf("drop the database: %v", err)
		}
	})

	db := &DB{URL: shared.url(name)}
	config, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		t.Fatalf("database URL: %v", err)
	}
	config.MaxConns = poolSize
	if db.Pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		t.Fatalf("open a pool: %v", err)
	}
	t.Cleanup(func() { closePool(t, db.Pool) })
	return db
}

// closePool closes a pool, which waits for connections in use: one that the test forgot must not hang it for ever.
func closePool(t testing.TB, pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Errorf("%d connections of the pool were never released", pool.Stat().AcquiredConns())
	}
}

// migrated copies the template, which the first caller makes.
func (c *cluster) migrated(ctx context.Context) (string, error) {
	template, err := c.ensureTemplate(ctx)
	if err != nil {
		return "", err
	}
	return c.create(ctx, " template "+template)
}

// empty makes a database from the server's own template.
func (c *cluster) empty(ctx context.Context) (string, error) {
	c.mu.Lock()
	err := c.start(ctx)
	c.mu.Unlock()
	if err != nil {
		return "", err
	}
	return c.create(ctx, "")
}

func (c *cluster) ensureTemplate(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.start(ctx); err != nil {
		return "", err
	}
	if c.template != "" {
		return c.template, nil
	}
	name, err := c.create(ctx, "")
	if err != nil {
		return "", err
	}
	if err := migrate(ctx, c.url(name)); err != nil {
		return "", errors.Join(err, c.drop(ctx, name))
	}
	c.template = name
	return name, nil
}

// create makes a database with a name that no other test process on the same server has.
func (c *cluster) create(ctx context.Context, options string) (string, error) {
	name := "signalbox_test_" + strings.ToLower(rand.Text())
	return name, c.exec(ctx, "create database "+name+options)
}

// drop removes a database, also from under those who are connected to it.
func (c *cluster) drop(ctx context.Context, name string) error {
	return c.exec(ctx, "drop database if exists "+name+" with (force)")
}

// exec runs a statement that cannot run in the database it is about.
func (c *cluster) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, c.admin)
	if err != nil {
		return fmt.Errorf("connect to the test server: %w", err)
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// migrate brings a database up to date with both sets.
func migrate(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	// Closed when we return: a template with a connection cannot be copied.
	defer conn.Close(ctx)
	return errors.Join(apply.Up(ctx, conn, migrations.Outbox), apply.Up(ctx, conn, migrations.Signals))
}

// databaseURLs returns what makes the URLs of other databases from that of one of a server.
func databaseURLs(server string) (func(database string) string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		// Without the value: it may have a password in it.
		return nil, errors.New("TEST_DATABASE_URL must be of the form postgres://user:password@host:port/database")
	}
	return func(database string) string {
		other := *u
		other.Path = "/" + database
		return other.String()
	}, nil
}
