package engine

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/naming"
)

// Connections lends a member the connections that its statements go over. Members of one worker may share them: each call has the
// connection to itself until do returns. All of them reach one server in one life of it: a [ServerLock] shows that, or they are one.
type Connections interface {
	// Read lends the one that events are read over.
	Read(ctx context.Context, do func(naming.Conn) error) error
	// Write lends one for a short transaction, which waits for locks of others for a moment at most.
	Write(ctx context.Context, do func(naming.Conn) error) error
	// Wait lends one for a transaction that may have to wait for what others have locked: for as long, no other subscription waits with it.
	Wait(ctx context.Context, do func(naming.Conn) error) error
}

// alone is a connection that a member shares with none.
type alone struct{ conn naming.Conn }

func (a alone) Read(_ context.Context, do func(naming.Conn) error) error  { return do(a.conn) }
func (a alone) Write(_ context.Context, do func(naming.Conn) error) error { return do(a.conn) }
func (a alone) Wait(_ context.Context, do func(naming.Conn) error) error  { return do(a.conn) }

// lend is one of the methods of Connections.
type lend func(ctx context.Context, do func(naming.Conn) error) error

// inTx runs a batch as one transaction behind the fence, in one round trip. It returns ErrBusy if the transaction waited for a lock for
// longer than the connection lets it: then it was rolled back, and queue is called again when it is repeated.
func (m *Member) inTx(ctx context.Context, over lend, queue func(*pgx.Batch)) error {
	return over(ctx, func(conn naming.Conn) error {
		batch := &pgx.Batch{}
		batch.Queue("begin isolation level read committed")
		batch.Queue(fenceSQL, m.worker, []int32{m.subscription})
		queue(batch)
		batch.Queue("commit")
		return busy(evicted(send(ctx, conn, batch)))
	})
}

// send runs a batch that is a transaction, and leaves none behind if it fails: others may have the connection next.
func send(ctx context.Context, conn naming.Conn, batch *pgx.Batch) error {
	err := conn.SendBatch(ctx, batch).Close()
	if err != nil && !conn.IsClosed() && conn.PgConn().TxStatus() != 'I' {
		_, _ = conn.Exec(ctx, "rollback") // what fails closes the connection, or shows with the next statement
	}
	return err
}
