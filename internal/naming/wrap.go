package naming

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A DB is a pool, a connection or a transaction of pgx.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// A Database is a DB that begins transactions.
type Database interface {
	DB
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// A Conn is a *pgx.Conn, or one whose statements are rendered.
type Conn interface {
	Database
	Begin(ctx context.Context) (pgx.Tx, error)
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
	WaitForNotification(ctx context.Context) (*pgconn.Notification, error)
	PgConn() *pgconn.PgConn
	IsClosed() bool
	Close(ctx context.Context) error
}

// For returns the name of the outbox for which a wrapper renders, which is the default one for what is not wrapped.
func For(db any) Name {
	if wrapped, ok := db.(interface{ outbox() Name }); ok {
		return wrapped.outbox()
	}
	return ""
}

// Conn wraps a connection.
func (n Name) Conn(c *pgx.Conn) Conn {
	if n == "" {
		return c
	}
	return &conn{c, database{n, c}}
}

// Tx wraps a transaction.
func (n Name) Tx(t pgx.Tx) pgx.Tx {
	if n == "" {
		return t
	}
	return &tx{t, n}
}

// Database wraps a pool or a connection; or a transaction, whose transactions are savepoints then.
func (n Name) Database(db DB) Database {
	if d, ok := db.(Database); ok && n == "" {
		return d
	}
	return &database{n, db}
}

func (n Name) batch(b *pgx.Batch) *pgx.Batch {
	for _, q := range b.QueuedQueries {
		q.SQL = n.SQL(q.SQL)
	}
	return b
}

type database struct {
	name Name
	db   DB
}

func (d *database) outbox() Name { return d.name }

func (d *database) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return d.db.Exec(ctx, d.name.SQL(sql), args...)
}

func (d *database) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return d.db.Query(ctx, d.name.SQL(sql), args...)
}

func (d *database) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return d.db.QueryRow(ctx, d.name.SQL(sql), args...)
}

func (d *database) BeginTx(ctx context.Context, options pgx.TxOptions) (_ pgx.Tx, err error) {
	var t pgx.Tx
	switch db := d.db.(type) {
	case interface {
		BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
	}:
		t, err = db.BeginTx(ctx, options)
	case interface {
		Begin(ctx context.Context) (pgx.Tx, error)
	}:
		t, err = db.Begin(ctx)
	default:
		return nil, fmt.Errorf("begin: %T begins no transactions", db)
	}
	if err != nil {
		return nil, err
	}
	return d.name.Tx(t), nil
}

// A conn is a connection whose statements are database's.
type conn struct {
	*pgx.Conn
	rendered database
}

func (c *conn) outbox() Name { return c.rendered.name }

func (c *conn) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return c.rendered.Exec(ctx, sql, args...)
}

func (c *conn) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return c.rendered.Query(ctx, sql, args...)
}

func (c *conn) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return c.rendered.QueryRow(ctx, sql, args...)
}

func (c *conn) Begin(ctx context.Context) (pgx.Tx, error) { return c.BeginTx(ctx, pgx.TxOptions{}) }

func (c *conn) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	return c.rendered.BeginTx(ctx, options)
}

func (c *conn) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	return c.Conn.SendBatch(ctx, c.rendered.name.batch(batch))
}

type tx struct {
	pgx.Tx
	name Name
}

func (t *tx) outbox() Name { return t.name }

func (t *tx) Begin(ctx context.Context) (pgx.Tx, error) {
	inner, err := t.Tx.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return t.name.Tx(inner), nil
}

func (t *tx) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	return t.Tx.SendBatch(ctx, t.name.batch(batch))
}

func (t *tx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return t.Tx.Exec(ctx, t.name.SQL(sql), args...)
}

func (t *tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return t.Tx.Query(ctx, t.name.SQL(sql), args...)
}

func (t *tx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return t.Tx.QueryRow(ctx, t.name.SQL(sql), args...)
}
