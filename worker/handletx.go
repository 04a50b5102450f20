package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// A handlerTx is the transaction of a window, in which handlers write and which settles what they did.
type handlerTx struct {
	pgx.Tx
	conn    *borrowed
	touched bool // handlers may have changed settings that are in force yet
	broken  bool // it cannot go on, nor its connection
}

// windowSavepoint is around all that the handlers of a window do. Its release fails if the transaction is another one by then, and
// undoes that it was made read-only: PostgreSQL gives the outer transaction back what it was.
const windowSavepoint = "signalbox_window"

// beginTx begins the transaction of a window on a borrowed connection, in one round trip.
func beginTx(ctx context.Context, l *borrowed, timeout time.Duration) (*handlerTx, error) {
	idle := "0" // let a transaction wait for its handler, for as long as that may take
	if timeout != unlimited {
		idle = strconv.FormatInt((timeout + handlerGrace).Milliseconds(), 10)
	}
	l.idle = idle
	tx, err := l.pg.BeginTx(ctx, pgx.TxOptions{BeginQuery: `begin isolation level read committed read write;
		set local idle_in_transaction_session_timeout = ` + idle + `; savepoint ` + windowSavepoint})
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return &handlerTx{Tx: tx, conn: l}, nil
}

// errLeftSettings is why the events of a window are handled again: it is not known which of them changed settings.
var errLeftSettings = errors.New("handler has changed settings of its session")

// end checks what the handlers left behind, in one round trip. It finds what would otherwise show only at the commit, when it is not
// known whose fault it is: a violation of a deferred constraint, the error of a statement that the handler did not report, another
// transaction.
func (t *handlerTx) end(ctx context.Context) error {
	batch := &pgx.Batch{}
	batch.Queue(`set constraints all immediate`)
	if t.touched {
		t.conn.restore(batch)
	}
	batch.Queue(`release savepoint ` + windowSavepoint)
	var state string
	batch.Queue(briefSQL).QueryRow(func(row pgx.Row) error { return row.Scan(&state) })
	if err := t.SendBatch(ctx, batch).Close(); err != nil {
		return fault(err)
	}
	if want := t.conn.clean.brief; state != want && want != "" && !t.touched {
		return errLeftSettings
	}
	t.touched = false
	return nil
}

// restore undoes between two events of a window what the first of them has set, if it may have set something.
func (t *handlerTx) restore(ctx context.Context) error {
	if !t.touched {
		return nil
	}
	batch := &pgx.Batch{}
	t.conn.restore(batch)
	batch.Queue(`release savepoint ` + windowSavepoint)
	batch.Queue(`savepoint ` + windowSavepoint)
	t.touched = false
	return t.SendBatch(ctx, batch).Close()
}

// initiallySQL has those constraints deferred again that are at first, for the next event.
const initiallySQL = `
do $$
declare deferred text;
begin
    select string_agg(format('%I.%I', n.nspname, c.conname), ', ') into deferred
    from pg_catalog.pg_constraint c join pg_catalog.pg_namespace n on n.oid = c.connamespace
    where c.condeferred;
    if deferred is not null then
        execute 'set constraints ' || deferred || ' deferred';
    end if;
end
$$`

// endPart checks what some events left behind, and leaves the transaction to the next as it was.
func (t *handlerTx) endPart(ctx context.Context, savepoint pgx.Tx) error {
	batch := &pgx.Batch{}
	batch.Queue(`set constraints all immediate`)
	t.conn.restore(batch)
	batch.Queue(initiallySQL)
	if err := savepoint.SendBatch(ctx, batch).Close(); err != nil {
		return fault(err)
	}
	t.touched = false
	return fault(savepoint.Commit(ctx))
}

// handleTx calls the handler in the transaction that settles what it did. Events go together; if one fails, that is undone, and
// they are handled in parts, each behind a savepoint, until those that fail are alone. Those that are tried again go one by one at once, and before
// the others.
func (r *runner) handleTx(ctx context.Context, jobs []job) error {
	r.begun, r.waitedFrom, r.probing = time.Now(), time.Time{}, r.breaker.open()
	var again, fresh, waited []*job
	for i := range jobs {
		switch j := &jobs[i]; {
		case j.again():
			again = append(again, j)
		case j.delivery:
			waited = append(waited, j)
		default:
			fresh = append(fresh, j)
		}
	}
	r.keys.begin(fresh)
	fresh = append(fresh, waited...) // their keys are others
	if len(again) > 0 {
		// The window is not handled yet. What waits in it must not have its row before the cursor passes it: after a crash it would
		// be handled as a delivery, and as an event once more.
		start, window, unfinished, holds := r.begun, r.owed.Window, r.owed.Unfinished, r.owed.Holds
		r.owed.Window, r.owed.Unfinished, r.owed.Holds = nil, nil, nil
		if err := r.inParts(ctx, again, 1); err != nil {
			return err
		}
		r.owed.Window, r.owed.Unfinished, r.owed.Holds = window, unfinished, holds
		r.retries.fit(again)
		r.retries.rest(time.Since(start))
		fresh = r.leaveBehind(ctx, again, fresh)
		r.begun = time.Now()
	}
	if len(fresh) > 0 {
		var took time.Duration
		settled, err := r.settleTx(ctx, fresh, func(t *handlerTx) bool {
			start := time.Now()
			ok := r.together(ctx, t, fresh) && t.end(ctx) == nil
			took = time.Since(start)
			return ok
		})
		if err == nil && !settled {
			most := max(1, len(fresh)/2)
			if r.sub.solo || took >= partsTime {
				most = 1
			}
			err = r.inParts(ctx, fresh, most)
		}
		if err != nil {
			return err
		}
		r.fit(countTried(fresh), time.Since(r.begun))
		r.waited.fit(waited)
	}
	return nil
}

// outOfTime reports whether the window has had its time: no further event of it begins.
func (r *runner) outOfTime() bool {
	took := time.Since(r.begun)
	return took >= txMost*windowTime && took >= r.sub.ParkAfter || r.halted()
}

// tooLate reports whether an event does not begin any more: because the window has had its time or, where it waited behind others of its
// key, because those that did have had theirs; or because its key has. Else all others would wait for one key.
func (r *runner) tooLate(j *job) bool {
	if j.delivery && !j.again() {
		return r.waitedIsOver()
	}
	return r.outOfTime() || j.again() && !j.probe && r.againIsOver(r.begun) ||
		!j.delivery && r.keys.over(j.event.Key, time.Since(r.begun)) && (r.keys.several || r.othersWait())
}

// waitedIsOver reports whether what waited has had its time: as long as what came before it in the window, as far as the window's time allows,
// and a moment in any case. With milliseconds of a window that takes a second, as where each event has to be handled by itself, it would become
// more and more, since what such a window has no time for waits as well.
func (r *runner) waitedIsOver() bool {
	if r.waitedFrom.IsZero() {
		r.waitedFrom = time.Now()
	}
	had, moment := r.waitedFrom.Sub(r.begun), dueTime
	if r.othersWait() {
		moment = againTime
	}
	return time.Since(r.waitedFrom) >= max(moment, min(had, txMost*windowTime-had)) || r.halted()
}

// admit waits until n attempts may begin, while the window has time.
func (r *runner) admit(ctx context.Context, n int) bool {
	return r.pacer.admit(ctx, n, r.begun.Add(windowTime))
}

// leaveBehind notes which of the others have to wait for an event that has failed again, and returns the rest.
func (r *runner) leaveBehind(ctx context.Context, again, others []*job) []*job {
	stopped := map[string]bool{}
	for _, j := range again {
		if !j.done() && r.stopsKey(ctx, j) {
			stopped[j.event.Key] = true
		}
	}
	return slices.DeleteFunc(others, func(j *job) bool {
		if stopped[j.event.Key] {
			j.behind = true
			r.record(ctx, j)
		}
		return stopped[j.event.Key]
	})
}

// together handles jobs without a savepoint for each. It ends with the first call that fails: the transaction is of no use any more.
func (r *runner) together(ctx context.Context, t *handlerTx, jobs []*job) bool {
	size := len(jobs)
	if r.sub.solo {
		size = 1
	}
	left := stops{} // all come in order, so their places do not matter
	return guarded(slices.Chunk(jobs, size), func(some []*job) bool {
		if first := some[0]; r.halted() || r.sub.solo && (left.before(first, 1) || r.tooLate(first)) || !r.admit(ctx, len(some)) {
			left.leave(some, 0)
			return true
		}
		return t.restore(ctx) == nil && r.callIn(ctx, t, t.Tx, some)
	})
}

func (r *runner) callIn(ctx context.Context, t *handlerTx, tx pgx.Tx, jobs []*job) bool {
	began := time.Now()
	ok := r.call(ctx, func(ctx context.Context, _ pgx.Tx, jobs []*job) { t.lend(ctx, r.sub.many, tx, jobs) }, jobs)
	if r.sub.solo {
		r.keys.add(jobs[0].event.Key, time.Since(began))
	}
	return ok
}

// settleTx handles jobs in a transaction and settles them in it if handle says so; otherwise the transaction is rolled back. An error
// ends the session: a settle that may have happened, or a connection that is not the pool's.
func (r *runner) settleTx(ctx context.Context, jobs []*job, handle func(t *handlerTx) bool) (bool, error) {
	l, giveBack, err := r.borrow(ctx)
	if err != nil {
		return false, err
	}
	defer giveBack()
	t, err := beginTx(ctx, l, r.sub.Timeout)
	if err != nil {
		return false, r.lose(l, err)
	}
	worthIt := handle(t)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if !worthIt {
		switch {
		case t.broken:
			err = r.lose(l, errors.New("handler left the connection unusable"))
		default:
			if err = t.Rollback(ctx); err != nil {
				err = r.lose(l, fmt.Errorf("roll back: %w", err))
			}
		}
		l.tidy(ctx)
		return false, err
	}
	for _, j := range jobs {
		r.record(ctx, j)
	}
	r.tellAttempts(ctx)
	if err := r.patiently(context.WithoutCancel(ctx), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, settleTimeout)
		defer cancel()
		return r.member.SettleTx(ctx, t.Tx, r.owed)
	}); err != nil {
		shut(l.pg)
		return false, err
	}
	r.settled()
	l.tidy(ctx)
	return true, nil
}

// borrow returns a connection for a window: one of the pool or, behind a proxy, where it cannot be shown that it reaches the server
// that was read from, the member's own.
func (r *runner) borrow(ctx context.Context) (*borrowed, func(), error) {
	if r.pool == nil {
		return r.own, func() {}, nil
	}
	return r.pool.borrow(ctx, r.log, r.sub.Name)
}

// lose gives a connection up. One of the pool costs no more than the attempt.
func (r *runner) lose(l *borrowed, err error) error {
	shut(l.pg)
	if l.proxied {
		return err
	}
	r.log.Debug("a connection of a transactional handler is given up", "error", err)
	return nil
}
