package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sourcegraph/conc"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/migrations"
)

// A session is one membership: from joining under a new id until the worker leaves, is evicted, or loses any of its
// connections. Then it ends as a whole, evicts itself, and the worker joins again. So there is one way back from every
// fault, and nothing that was read over a broken connection is ever settled.
type session struct {
	w          *Worker
	id         int64
	direct     bool
	control    naming.Conn
	serverLock engine.ServerLock // if direct
	shared     *connections      // if direct, what all of subs read and settle over;
	conns      []naming.Conn     // the first two of those or, behind a proxy, one for each of subs
	lent       []*borrowed       // behind a proxy, those of conns that transactional handlers get to use; else nil
	reader     *reader           // if direct
	pages      *engine.Pages     // what several of subs read of their backlogs; nil where none can share
	runners    []*runner
	subs       []engine.Subscription

	trigger  atomic.Int64  // notifications that publishers sent, for the sentinel
	rang     chan struct{} // has a token when trigger grew
	ringer   atomic.Uint32 // the backend over which this session rings as the sentinel: it has told its own runners itself
	changing chan struct{} // has a token when a subscription is to go back or to have other topics, for the sentinel
	stuck    atomic.Bool   // as of the last heartbeat, no notifications are sent: the server's queue of them is stuck
	workers  atomic.Int64  // as of the last heartbeat, how many there are, this one included
}

// departed has the ids of sessions that could not evict themselves, because the database was away.
type departed struct {
	ids []int64
	why string // the last session ended
}

func (d *departed) evict(ctx context.Context, conn naming.Conn) error {
	for len(d.ids) > 0 {
		_, err := engine.Evict(ctx, conn, d.ids[0], d.why)
		if errors.Is(err, engine.ErrBusy) { // a settle that was given up halfway: the server still waits for the rest
			if err = engine.EndSessions(ctx, conn, d.ids[0]); err == nil {
				_, err = engine.Evict(ctx, conn, d.ids[0], d.why)
			}
		}
		if err != nil {
			return err
		}
		d.ids = d.ids[1:]
	}
	return nil
}

// session joins, serves and leaves. It reports whether it came to serve.
func (w *Worker) session(ctx context.Context, left *departed) (served bool, err error) {
	s := &session{w: w, rang: make(chan struct{}, 1), changing: make(chan struct{}, 1)}
	if s.control, s.direct, err = w.connect.openOwn(ctx, "signalbox worker: control"); err != nil {
		return false, err
	}
	defer func() { shut(s.control) }()
	defer s.shutAll()
	if err := s.prepare(ctx, left); err != nil {
		return false, err
	}
	if err := s.join(ctx); err != nil {
		return false, err
	}
	left.ids = append(left.ids, s.id)

	err = s.serve(ctx)
	w.serving.Store(false)
	left.why = "its worker lost its session"
	if err != nil {
		left.why = shorten(left.why + ": " + err.Error())
	}
	s.shutAll()

	// Whether or not everything was settled and released, what is left of this id is removed. If that fails, the next session
	// tries again, and so does the sentinel.
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	if s.control.IsClosed() {
		if conn, _, err := w.connect.openOwn(cleanup, "signalbox worker: control"); err == nil {
			s.control = conn
		}
	}
	if !s.control.IsClosed() {
		if failure := left.evict(cleanup, s.control); err == nil {
			err = failure
		}
	}
	return true, err
}

// shutAll closes the connections that subscriptions read and settle over.
func (s *session) shutAll() {
	for _, conn := range s.conns {
		shut(conn)
	}
	s.conns = nil
}

// prepare checks that database and binary belong together, makes the subscriptions, and opens their connections. Until it has all that
// it needs, it does not join: the other workers would make room for one that cannot serve.
func (s *session) prepare(ctx context.Context, left *departed) error {
	checking, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	if err := migrations.For(s.w.cfg.Outbox).Check(checking, s.control); err != nil {
		return err
	}
	if err := engine.CheckLog(checking, s.control); err != nil {
		return err
	}
	if err := left.evict(checking, s.control); err != nil {
		return err
	}
	for _, registered := range s.w.subscriptions {
		if err := s.subscribe(ctx, registered); err != nil {
			return err
		}
	}
	if s.direct {
		err := s.within(ctx, func(ctx context.Context) (err error) {
			s.serverLock, err = engine.NewServerLock(ctx, s.control)
			return err
		})
		if err != nil {
			return err
		}
		return s.share(ctx)
	}
	for _, registered := range s.w.subscriptions {
		conn, lent, err := s.openProxied(ctx, registered)
		if err != nil {
			return fmt.Errorf("open a connection for subscription %q, after %d for others (the worker needs %d): %w",
				registered.Name, len(s.conns), 1+len(s.subs), err)
		}
		s.conns, s.lent = append(s.conns, conn), append(s.lent, lent)
	}
	return nil
}

// subscribe makes a subscription unless it is there. Each has a time of its own, since there may be many.
func (s *session) subscribe(ctx context.Context, registered registration) error {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	sub, err := engine.Subscribe(ctx, s.control, registered.Name, registered.Topics, registered.Start)
	if err != nil {
		return err
	}
	if sub.Created {
		if err := s.logCreated(ctx, sub); err != nil {
			return err
		}
	}
	s.subs = append(s.subs, sub)
	return nil
}

// logCreated says that a subscription is new, and what that means: a name that is mistyped handles the whole log again.
func (s *session) logCreated(ctx context.Context, sub engine.Subscription) error {
	old, more, err := engine.CountOld(ctx, s.control, sub)
	if err != nil {
		return err
	}
	log := s.w.cfg.Logger.With("worker", s.w.cfg.Name, "subscription", sub.Name, "topics", sub.Topics, "old_events", old, "more_than_counted", more)
	if old > 0 || more {
		log.Warn("created subscription: it handles events that were published before")
	} else {
		log.Info("created subscription")
	}
	return nil
}

// join registers the worker. Nothing is left behind when it fails.
func (s *session) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if s.direct {
		// Before the first read, so that whatever it does not see rings.
		if _, err := s.control.Exec(ctx, "listen "+s.w.cfg.Outbox.Channel()); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	} else {
		s.w.cfg.Logger.Warn("the database is behind a pooling proxy, where LISTEN and session locks do not work: "+
			"events wait for the next poll, and a dead worker's lanes for its lease. Give workers a direct connection.",
			"poll_interval", s.w.cfg.PollInterval)
	}
	lease := s.w.cfg.Lease
	if !s.direct {
		lease *= 3 // nothing else tells that it lives, and a proxy may hold up a heartbeat
	}
	ids := make([]int32, len(s.subs))
	for i, sub := range s.subs {
		ids[i] = sub.ID
	}
	var err error
	if s.id, err = engine.Join(ctx, s.control, s.w.cfg.Name, s.direct, lease, ids); err != nil || !s.direct {
		return err
	}
	for i, conn := range s.conns {
		if err := rename(ctx, conn, s.name([]string{"read", "write"}[i])); err != nil {
			s.w.connect.log.Debug("a connection keeps its name", "error", err) // it shows soon enough whether it is of use
		}
	}
	return nil
}

// serve runs the session's goroutines until the first of them fails, or parent is cancelled and all is drained.
func (s *session) serve(parent context.Context) error {
	log := s.w.cfg.Logger.With("worker", s.w.cfg.Name, "worker_id", s.id)

	// Two contexts: drain ends reading, abort ends handlers and statements.
	drain, stop := context.WithCancelCause(parent)
	defer stop(nil)
	abort, kill := context.WithCancelCause(context.WithoutCancel(parent))
	defer kill(nil)
	// The control loop outlives the runners, so that a worker that takes its time to drain is not taken for dead.
	beating, rest := context.WithCancel(abort)
	defer rest()

	pool := s.newTxPool()
	defer pool.close()
	if s.direct {
		defer s.shared.waiting.tidy(0)
	}
	reading, settles, shared := make(chan struct{}, 1), &settler{}, 0
	if s.direct {
		s.reader = &reader{conn: s.shared.reading, rang: make(chan struct{}, 1)}
		if len(s.subs) > 1 {
			shared = s.w.cfg.ReadAheadBytes / pagesPart
			s.pages = engine.NewPages(shared)
		}
	}
	for i, sub := range s.subs {
		r := &runner{
			stopping: drain.Done(),
			log:      log.With("subscription", sub.Name), worker: s.w.cfg.Name, cfg: s.w.cfg,
			sub: s.w.subscriptions[i], reading: reading, member: s.member(i), wake: newWakeups(),
			backlog: newBacklog(), pacer: newPacer(s.w.subscriptions[i].Rate, s.w.subscriptions[i].RateBurst), breaker: breaker{last: make([]trial, s.w.subscriptions[i].BreakerAfter)}, parked: map[int64]*job{}, loadedAt: time.Now(), limit: s.w.subscriptions[i].firstWindow(),
		}
		switch {
		case !s.direct:
			r.own = s.lent[i]
		case r.sub.tx:
			r.pool = pool
		}
		r.share = (s.w.cfg.ReadAheadBytes - shared) / len(s.subs)
		r.member.Limit(r.windowBytes())
		if s.pages != nil {
			r.member.Share(s.pages, r.sub.WindowSize)
		}
		if s.direct {
			r.feed = &feed{member: r.member, wake: r.wake, reader: s.reader, bytes: r.windowBytes()}
			s.reader.feeds = append(s.reader.feeds, r.feed)
			r.settler, r.offered = settles, &offer{wake: r.wake}
			settles.offers = append(settles.offers, r.offered)
		}
		s.runners = append(s.runners, r)
	}

	var fault atomic.Pointer[error]
	fail := func(err error) {
		if err == nil {
			return
		}
		fault.CompareAndSwap(nil, &err)
		stop(err)
	}
	var runners, control conc.WaitGroup
	for i, r := range s.runners {
		runners.Go(func() {
			err := errGone
			defer func() {
				if err != nil {
					fail(fmt.Errorf("subscription %q: %w", s.subs[i].Name, err))
				}
			}()
			err = r.run(drain, abort)
		})
	}
	if s.direct {
		control.Go(func() { fail(s.reader.run(drain, abort)) })
	}
	control.Go(func() {
		if err := s.beat(beating, abort, log); err != nil && beating.Err() == nil {
			fail(err)
		}
	})
	log.Info("serving", "subscriptions", len(s.subs), "direct", s.direct)

	drained := make(chan struct{})
	go func() {
		defer close(drained)
		runners.Wait()
	}()
	select {
	case <-drained: // all of them failed, or drained already
	case <-drain.Done():
		// After a fault, the lanes are about to be taken over. What can still be settled is settled, but it does not wait for long.
		patience := s.w.cfg.ShutdownTimeout
		if parent.Err() == nil {
			patience = faultPatience
		} else {
			log.Info("stopping: handlers that are running may finish", "within", orWord(patience))
		}
		select {
		case <-drained:
		case <-time.After(patience):
			log.Warn("handlers take too long to finish: cancelling them", "after", patience)
			kill(nil)
			if parent.Err() == nil {
				rest() // who does not return after a fault is not kept alive by its heartbeats: others take its lanes
			}
			<-drained
		}
	}
	rest()
	control.Wait()
	kill(nil) // handlers of parked events: nothing that they do can be recorded any more
	s.awaitHandlers(log)
	if err := fault.Load(); err != nil {
		return *err
	}
	return nil
}

// name is what a connection of the session calls itself, once it has joined.
func (s *session) name(purpose string) string {
	return engine.SessionName(s.w.connect.outbox, s.id, purpose)
}

// member returns the session's part in a subscription.
func (s *session) member(i int) *engine.Member {
	if s.direct {
		return engine.NewMemberOver(s.shared, s.w.connect.outbox, s.id, s.subs[i])
	}
	return engine.NewMember(s.conns[i], s.id, s.subs[i])
}

// openProxied returns a connection behind a proxy to read and settle a subscription over: there it cannot be shown that two reach the
// same server. It serves transactional handlers, too.
func (s *session) openProxied(ctx context.Context, sub registration) (naming.Conn, *borrowed, error) {
	name := "signalbox worker: " + sub.Name
	if !sub.tx {
		conn, _, err := s.w.connect.openOwn(ctx, name)
		return conn, nil, err
	}
	l := &borrowed{guard: &txGuard{}, proxied: true, prepared: true}
	var err error
	if l.pg, _, err = s.w.connect.open(ctx, name, forHandlers(sub.Timeout), watchWith(l.guard)); err != nil {
		return nil, nil, err
	}
	if l.clean, err = stateOf(ctx, l.pg); err != nil {
		shut(l.pg)
		return nil, nil, err
	}
	return s.w.connect.outbox.Conn(l.pg), l, nil
}

// newTxPool returns the pool for transactional handlers.
func (s *session) newTxPool() *txPool {
	n, longest := 0, time.Duration(0)
	for _, sub := range s.w.subscriptions {
		if sub.tx {
			n, longest = n+1, max(longest, sub.Timeout)
		}
	}
	return newTxPool(s.w.connect, n, func(ctx context.Context, g *txGuard) (*pgx.Conn, error) {
		return s.openChecked(ctx, s.name("handlers"), forHandlers(longest), watchWith(g))
	})
}

// openChecked opens a connection that reaches the server of the control connection.
func (s *session) openChecked(ctx context.Context, name string, options ...func(*connection)) (*pgx.Conn, error) {
	conn, _, err := s.w.connect.open(ctx, name, options...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := s.serverLock.Check(ctx, conn); err != nil {
		shut(conn)
		return nil, err
	}
	return conn, nil
}

// errGone is what is left to say of a runner whose goroutine was ended.
var errGone = errors.New("its goroutine was ended")

// awaitHandlers waits until the goroutines of all handlers have ended. One that ignores its context cannot be waited for.
func (s *session) awaitHandlers(log *slog.Logger) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, r := range s.runners {
			r.handlers.Wait()
		}
	}()
	select {
	case <-ended:
	case <-time.After(faultPatience):
		log.Warn("a handler ignores that its context was cancelled: it is left behind")
	}
}

// orWord is a limit as a log shows it.
func orWord(d time.Duration) any {
	if d == unlimited {
		return "unlimited"
	}
	return d
}

// faultPatience is how long handlers may go on after the session has failed.
const faultPatience = time.Second
