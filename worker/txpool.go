package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/engine"
)

// poolSize is how many connections transactional handlers of a worker share.
const poolSize = 4

// A txPool has the connections over which transactional handlers work, and settle what they did. They are not those that events are
// read over, so that whatever a handler does to one costs its own attempt, and not the session. A subscription borrows one for a
// window, and gives it back as it was: what is not clean is closed, and the next is opened.
type txPool struct {
	open    func(ctx context.Context, g *txGuard) (*pgx.Conn, error) // as one of this session's, with proof of the server
	connect *connector
	slots   slots

	mu   sync.Mutex
	idle []*borrowed
}

// A borrowed connection is one of the pool's connections, or behind a proxy the subscription's own.
type borrowed struct {
	pg       *pgx.Conn
	guard    *txGuard
	proxied  bool // the subscription's: it is neither cleaned nor replaced
	prepared bool // by the application's AfterConnect, which may have set what "reset all" would undo
	user     string
	clean    sessionState

	idle    string // for how long the transaction of this window may be idle
	touched bool   // since it was clean, a handler may have changed any setting
}

// newTxPool returns a pool for so many subscriptions.
func newTxPool(c *connector, subscriptions int, open func(ctx context.Context, g *txGuard) (*pgx.Conn, error)) *txPool {
	return &txPool{open: open, connect: c, slots: make(slots, max(1, min(poolSize, subscriptions)))}
}

// borrow returns a connection for a window of a subscription. It waits for one that others have, and for a server that grants none
// at the moment, until ctx ends. A connection to another server is an error: nothing that was read before may be settled there.
func (p *txPool) borrow(ctx context.Context, log *slog.Logger, user string) (l *borrowed, giveBack func(), err error) {
	release, err := p.slots.take(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, reconnectLongest) {
		if l = p.take(user); l != nil && l.user != user && p.renew(ctx, l) != nil {
			shut(l.pg)
			continue
		}
		if err = nil; l == nil { // whatever the attempt before met
			l, err = p.dial(ctx)
		}
		switch {
		case err == nil:
			l.user = user
			return l, func() {
				p.put(l)
				release()
			}, nil
		case errors.Is(err, engine.ErrOtherServer):
			return nil, nil, err
		}
		log.Warn("no connection for the transactional handler, will try again", "retry_in", pause, "error", err)
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return nil, nil, errors.Join(ctx.Err(), err)
		}
	}
}

// take returns an idle connection, best the one that the subscription had last.
func (p *txPool) take(user string) *borrowed {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	i := max(0, slices.IndexFunc(p.idle, func(l *borrowed) bool { return l.user == user }))
	l := p.idle[i]
	p.idle = slices.Delete(p.idle, i, i+1)
	return l
}

// put takes a connection back. It is closed if it is of no use any more, or one more than the pool may have.
func (p *txPool) put(l *borrowed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.pg.IsClosed() || len(p.idle) >= cap(p.slots) {
		shut(l.pg)
		return
	}
	p.idle = append(p.idle, l)
}

// close closes what is idle. All has to be given back before.
func (p *txPool) close() {
	for _, l := range p.idle {
		shut(l.pg)
	}
	p.idle = nil
}

func (p *txPool) dial(ctx context.Context) (*borrowed, error) {
	l := &borrowed{guard: &txGuard{}, prepared: p.connect.config.AfterConnect != nil}
	var err error
	if l.pg, err = p.open(ctx, l.guard); err != nil {
		return nil, err
	}
	if l.clean, err = stateOf(ctx, l.pg); err != nil {
		shut(l.pg)
		return nil, err
	}
	return l, nil
}

// renew prepares a connection for another subscription: nothing is left of the one that had it.
func (p *txPool) renew(ctx context.Context, l *borrowed) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := l.pg.DeallocateAll(ctx); err != nil {
		return err
	}
	if _, err := l.pg.Exec(ctx, `discard all`); err != nil {
		return err
	}
	if _, err := p.connect.setUp(ctx, l.pg, true); err != nil {
		return err
	}
	var err error
	l.clean, err = stateOf(ctx, l.pg)
	return err
}

// A sessionState is what is set in a session, and has to be so again when a handler has used it.
type sessionState struct {
	user, role    string
	names, values []string
	brief, full   string // to compare
}

// briefSQL looks at what handlers set most, in microseconds; fullSQL at everything that shows, in a millisecond.
const (
	briefSQL = `
select pg_catalog.concat_ws(E'\n', session_user, pg_catalog.current_setting('role'), pg_catalog.current_setting('search_path'),
    pg_catalog.current_setting('row_security'), pg_catalog.current_setting('statement_timeout'), pg_catalog.current_setting('lock_timeout'),
    pg_catalog.current_setting('default_transaction_read_only'), pg_catalog.current_setting('default_transaction_isolation'),
    pg_catalog.current_setting('session_replication_role'),
    pg_catalog.current_setting('client_encoding'), pg_catalog.current_setting('DateStyle'), pg_catalog.current_setting('IntervalStyle'),
    pg_catalog.current_setting('TimeZone'), pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('bytea_output'),
    pg_catalog.current_setting('extra_float_digits'), pg_catalog.current_setting('synchronous_commit'))`
	settingsSQL = `from pg_catalog.pg_settings s where s.source = 'session' and s.name not like 'transaction\_%'`
	fullSQL     = `
select pg_catalog.concat_ws(E'\n', (` + briefSQL + `),
    (select pg_catalog.string_agg(s.name || '=' || s.setting, E'\n' order by s.name) ` + settingsSQL + `))`
	// againSQL sets what was set in the session before a handler had it; changedSQL, for the rest of the transaction, what the handler
	// has changed. Settings with a dot in their names show nowhere: these are undone by "reset all" alone.
	againSQL   = `select pg_catalog.set_config(b.name, b.value, false) from unnest($1::text[], $2::text[]) as b (name, value)`
	changedSQL = `
select pg_catalog.set_config(s.name, coalesce(b.value, s.reset_val, ''), true)
from pg_catalog.pg_settings s
left join unnest($1::text[], $2::text[]) as b (name, value) on b.name = s.name
where s.source = 'session' and s.name not like 'transaction\_%' and s.setting is distinct from coalesce(b.value, s.reset_val)`
)

// deallocateSQL drops the statements that were prepared in SQL: others are pgx's.
const deallocateSQL = `
do $$
declare statement text;
begin
    for statement in select p.name from pg_catalog.pg_prepared_statements p where p.from_sql loop
        execute pg_catalog.format('deallocate %I', statement);
    end loop;
end
$$`

func stateOf(ctx context.Context, conn *pgx.Conn) (s sessionState, err error) {
	err = conn.QueryRow(ctx, `select session_user::text, pg_catalog.current_setting('role'),
		array(select s.name `+settingsSQL+` order by s.name), array(select s.setting `+settingsSQL+` order by s.name), (`+briefSQL+`), (`+fullSQL+`)`).
		Scan(&s.user, &s.role, &s.names, &s.values, &s.brief, &s.full)
	if err != nil {
		return s, fmt.Errorf("look at the session: %w", err)
	}
	return s, nil
}

// restore queues what undoes between two events, and before the settle, what a handler has set and made: the timeout first, or it might
// end the others, then the role, which might not be allowed to do the rest.
func (l *borrowed) restore(batch *pgx.Batch) {
	batch.Queue(`set local statement_timeout = 0`)
	batch.Queue(`select pg_catalog.set_config('session_authorization', $1, true) where session_user <> $1`, l.clean.user)
	batch.Queue(`select pg_catalog.set_config('role', $1, true)`, l.clean.role)
	if l.prepared {
		batch.Queue(changedSQL, l.clean.names, l.clean.values)
	} else {
		batch.Queue(`reset all`)
		batch.Queue(againSQL, l.clean.names, l.clean.values)
	}
	batch.Queue(`select pg_catalog.set_config('idle_in_transaction_session_timeout', $1, true)`, l.idle)
	batch.Queue(`close all`)
	batch.Queue(`discard temp`) // those "on commit drop", too: the next event may want a table of the same name
	batch.Queue(deallocateSQL)
}

// tidy undoes what has outlived a transaction. What cannot be undone costs the connection.
func (l *borrowed) tidy(ctx context.Context) {
	touched := l.touched
	l.touched = false
	switch {
	case l.proxied || l.pg.IsClosed():
		return
	case l.prepared && touched: // the application's settings may have changed, which only it can set again
		shut(l.pg)
		return
	}
	var got string
	batch := &pgx.Batch{}
	for _, sql := range []string{`close all`, `unlisten *`, `select pg_catalog.pg_advisory_unlock_all()`, `discard temp`} {
		batch.Queue(sql)
	}
	state, want := briefSQL, l.clean.brief
	if touched {
		state, want = fullSQL, l.clean.full
	}
	if !l.prepared {
		batch.Queue(`reset all`)
		batch.Queue(againSQL, l.clean.names, l.clean.values)
	}
	batch.Queue(state).QueryRow(func(row pgx.Row) error { return row.Scan(&got) })
	if err := l.pg.SendBatch(ctx, batch).Close(); err != nil || got != want {
		shut(l.pg)
	}
}
