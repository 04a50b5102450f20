package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A lentTx is the settling transaction as a handler gets it: it can be used, and not ended.
type lentTx struct {
	pgx.Tx
	ended bool
}

func (t *lentTx) Commit(context.Context) error {
	t.ended = true
	return errEnded
}

func (t *lentTx) Rollback(context.Context) error {
	t.ended = true
	return errEnded
}

// What a handler may leave behind that costs its attempt.
var (
	errEnded       = errors.New("handler ended its transaction: the worker commits when it returns nil, and rolls back when it returns an error")
	errEndedUnseen = fmt.Errorf("with a statement of its own, %w", errEnded)
	errOpen        = errors.New("handler returned before the end of a query or COPY: close its rows, scan its row")
	errCutOff      = errors.New("handler's connection was closed, by the handler or by the server")
)

// lend calls the handler with a transaction, and takes it back, also if the handler ends its goroutine.
func (t *handlerTx) lend(ctx context.Context, handler manyFunc, tx pgx.Tx, jobs []*job) {
	lent := &lentTx{Tx: tx}
	g := t.conn.guard
	g.refused.Store(false)
	g.lent.Store(true)
	defer t.takeBack(lent, jobs)
	handler(ctx, lent, jobs)
}

// takeBack looks at what the handler has left. A fault of it is the failure of all its jobs. What cannot be used any more is noted as
// broken.
func (t *handlerTx) takeBack(lent *lentTx, jobs []*job) {
	g := t.conn.guard
	g.lent.Store(false)
	if g.touched.Swap(false) {
		t.touched, t.conn.touched = true, true
	}

	var fault error
	conn := t.conn.pg
	switch {
	case conn.IsClosed():
		fault, t.broken = errCutOff, true
	case conn.PgConn().IsBusy():
		fault, t.broken = errOpen, true
	case conn.PgConn().TxStatus() == 'I':
		fault, t.broken = errEndedUnseen, true
	case lent.ended || g.refused.Load():
		fault = errEnded
	}
	if fault == nil {
		return
	}
	for _, j := range jobs {
		text := fault.Error()
		if j.failure != nil && !strings.Contains(j.failure.text, text) && (!g.refused.Load() || !saysCanceled(j.failure)) {
			text += ": " + j.failure.text
		}
		j.failure = &failure{text: shorten(text), err: fault}
	}
}

// saysCanceled reports whether a failure is what pgx makes of a statement that was not sent. Its text tells, without a call of the
// application's code.
func saysCanceled(f *failure) bool { return strings.Contains(f.text, context.Canceled.Error()) }

// fault names what a statement of the worker found that followed a handler's.
func fault(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	switch pgErr.Code {
	case pgerrcode.InvalidSavepointSpecification, pgerrcode.NoActiveSQLTransaction:
		return fmt.Errorf("%w (%w)", errEndedUnseen, err)
	case pgerrcode.InFailedSQLTransaction:
		return fmt.Errorf("handler returned nil, and a statement of its had failed: %w", err)
	}
	return err
}
