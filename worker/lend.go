package worker

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// A lentTx is the settling transaction as a handler gets it. A handler that ended it, or left a query running in it, would fail
// the session, and with it all other subscriptions of the worker: here, only its own attempt fails.
type lentTx struct {
	pgx.Tx
	ended bool
	close func() // ends the last query
}

var (
	errEnded = errors.New("handler ended its transaction: the worker commits when it returns nil, and rolls back when it returns an error")
	errOpen  = errors.New("handler returned before the end of a query: close its rows")
)

// lend wraps the transaction of a handler.
func lend[T any](handler func(ctx context.Context, tx pgx.Tx, events []*Event[T]) error) func(context.Context, pgx.Tx, []*Event[T]) error {
	return func(ctx context.Context, tx pgx.Tx, events []*Event[T]) (err error) {
		lent := &lentTx{Tx: tx}
		defer func() { // also when it panics
			if fault := lent.takeBack(); err == nil {
				err = fault
			}
		}()
		return handler(ctx, lent, events)
	}
}

// takeBack leaves the transaction usable, and says what the handler should not have done with it.
func (t *lentTx) takeBack() error {
	if t.close != nil && t.Tx.Conn().PgConn().IsBusy() {
		t.close()
		return errOpen
	}
	if t.ended {
		return errEnded
	}
	return nil
}

func (t *lentTx) Commit(context.Context) error {
	t.ended = true
	return errEnded
}

func (t *lentTx) Rollback(context.Context) error {
	t.ended = true
	return errEnded
}

func (t *lentTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := t.Tx.Query(ctx, sql, args...)
	t.close = rows.Close
	return rows, err
}

func (t *lentTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	results := t.Tx.SendBatch(ctx, b)
	t.close = func() { _ = results.Close() }
	return results
}
