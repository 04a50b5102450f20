package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/naming"
)

const (
	// writePatience is how long a short transaction waits for what others have locked, while other subscriptions wait for its connection.
	// Then it is repeated where none wait with it.
	writePatience = 250 * time.Millisecond
	// waitPatience is how long a transaction waits for the same over a connection of the pool, before it gives that back, and tries again.
	waitPatience = 2 * time.Second
	// waitSize is how many connections of the pool there are at once, and waitIdle how long one stays that is not used.
	waitSize = 2
	waitIdle = 5 * time.Second
	// trustIdle is for how long an idle connection is taken to be alive.
	trustIdle = time.Second
)

// connections are those that all subscriptions of a session share, however many they are: one to read over, one for short
// transactions, and a pool for those that may have to wait. All of them reach the server of the control connection.
//
// Whoever has one of the first two holds up the others; so nothing that goes over them waits for handlers, or for long.
type connections struct {
	reading, writing *shared
	lagging          chan struct{} // has a token while a subscription reads for itself
	waiting          *waitPool
}

// A shared connection is lent to one user at a time, in the order in which they ask.
type shared struct {
	conn naming.Conn
	lent chan struct{}
}

func share(conn naming.Conn) *shared { return &shared{conn: conn, lent: make(chan struct{}, 1)} }

func (s *shared) lend(ctx context.Context, do func(naming.Conn) error) error {
	select {
	case s.lent <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.lent }()
	return do(s.conn)
}

// Read lends the connection that events are read over. Of those that read for themselves, only one waits for it at a time: so the
// reader, which reads for all others, has its turn after each of them.
func (c *connections) Read(ctx context.Context, do func(naming.Conn) error) error {
	select {
	case c.lagging <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.lagging }()
	return c.reading.lend(ctx, do)
}

// Write lends the connection for short transactions.
func (c *connections) Write(ctx context.Context, do func(naming.Conn) error) error {
	return c.writing.lend(ctx, do)
}

// Wait lends a connection of the pool. Where the server grants none, it has to be the other: then others may wait with it, for a moment.
func (c *connections) Wait(ctx context.Context, do func(naming.Conn) error) error {
	err := c.waiting.lend(ctx, do)
	if errors.Is(err, errNoConnection) && !errors.Is(err, engine.ErrOtherServer) {
		return c.writing.lend(ctx, do)
	}
	return err
}

// share opens the connections that all subscriptions read and settle over.
func (s *session) share(ctx context.Context) error {
	c := &connections{lagging: make(chan struct{}, 1), waiting: newWaitPool(func(ctx context.Context) (naming.Conn, error) {
		return s.openPatient(ctx, s.name("pool"), waitPatience)
	})}
	for i, name := range []string{"read", "write"} {
		conn, err := s.openPatient(ctx, "signalbox worker: "+name, writePatience)
		if err != nil {
			return fmt.Errorf("open a connection to %s over (the worker needs 3 for all of its subscriptions, and has %d): %w", name, 1+i, err)
		}
		s.conns = append(s.conns, conn)
	}
	c.reading, c.writing = share(s.conns[0]), share(s.conns[1])
	s.shared = c
	return nil
}

// openOurs opens a connection that reaches the server of the control connection, for statements of the project alone.
func (s *session) openOurs(ctx context.Context, name string) (naming.Conn, error) {
	pg, err := s.openChecked(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.w.connect.outbox.Conn(pg), nil
}

// openPatient opens a connection that reaches the server of the control connection, whose statements wait so long for locks.
func (s *session) openPatient(ctx context.Context, name string, patience time.Duration) (naming.Conn, error) {
	conn, err := s.openOurs(ctx, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, `select pg_catalog.set_config('lock_timeout', $1, false)`, fmt.Sprint(patience.Milliseconds())); err != nil {
		shut(conn)
		return nil, fmt.Errorf("set up the session: %w", err)
	}
	return conn, nil
}

// Slots are how many connections of a pool may be used at once. One that is held for longer than a window's time does not count.
type slots chan struct{}

// take waits for a slot, and returns what gives it back.
func (s slots) take(ctx context.Context) (giveBack func(), err error) {
	patience := time.NewTimer(windowTime)
	defer patience.Stop()
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	case <-patience.C: // others hold theirs for long: one more
		return func() {}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A waitPool has connections for transactions that may have to wait for what others have locked, an operator who looks at deliveries
// for example: that costs the subscription that they are about, and no other. They are opened when they are needed, and
// closed when they are not.
type waitPool struct {
	open  func(context.Context) (naming.Conn, error)
	slots slots

	mu   sync.Mutex
	idle []idleConn // the last one is the one that was used last
}

type idleConn struct {
	naming.Conn
	since time.Time
}

func newWaitPool(open func(context.Context) (naming.Conn, error)) *waitPool {
	return &waitPool{open: open, slots: make(slots, waitSize)}
}

// errNoConnection says that none is to be had at the moment.
var errNoConnection = errors.New("no connection for a transaction that may have to wait")

// lend returns errNoConnection without having called do, and else what do returns.
func (p *waitPool) lend(ctx context.Context, do func(naming.Conn) error) error {
	giveBack, err := p.slots.take(ctx)
	if err != nil {
		return err
	}
	defer giveBack()
	conn, err := p.take(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoConnection, err)
	}
	defer p.put(conn)
	return do(conn)
}

// take returns a connection that is alive. One that has been lost while it was idle has cost nothing.
func (p *waitPool) take(ctx context.Context) (naming.Conn, error) {
	for {
		p.mu.Lock()
		last := len(p.idle) - 1
		if last < 0 {
			p.mu.Unlock()
			return p.open(ctx)
		}
		c := p.idle[last]
		p.idle = p.idle[:last]
		p.mu.Unlock()
		if time.Since(c.since) > trustIdle {
			if _, err := c.Exec(ctx, "select"); err != nil {
				shut(c)
				continue
			}
		}
		return c.Conn, nil
	}
}

func (p *waitPool) put(conn naming.Conn) {
	p.mu.Lock()
	keep := !conn.IsClosed() && conn.PgConn().TxStatus() == 'I' && len(p.idle) < waitSize
	if keep {
		p.idle = append(p.idle, idleConn{conn, time.Now()})
	}
	p.mu.Unlock()
	if !keep {
		shut(conn)
	}
}

// tidy closes connections that have not been used for so long.
func (p *waitPool) tidy(unused time.Duration) {
	var out []idleConn
	p.mu.Lock()
	for len(p.idle) > 0 && time.Since(p.idle[0].since) >= unused {
		out, p.idle = append(out, p.idle[0]), p.idle[1:]
	}
	p.mu.Unlock()
	for _, c := range out {
		shut(c)
	}
}

// patiently repeats what has waited for the locks of others, until it is done or the session ends. It blocks the runner, and no other:
// an operator may keep a transaction open for hours.
func (r *runner) patiently(ctx context.Context, do func(context.Context) error) error {
	begun := time.Now()
	for said := false; ; said = true {
		err := do(ctx)
		if !errors.Is(err, engine.ErrBusy) || ctx.Err() != nil || r.stops() && time.Since(begun) >= settleTimeout {
			return err
		}
		if !said {
			r.log.Warn("the subscription waits for a transaction of another session, which has locked rows of the subscription: "+
				"end that, or find it with pg_blocking_pids", "error", err)
		}
		select {
		case <-time.After(rand.N(writePatience)):
		case <-ctx.Done():
		}
	}
}

// stops reports whether the session is about to end.
func (r *runner) stops() bool {
	select {
	case <-r.stopping:
		return true
	default:
		return false
	}
}
