package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sourcegraph/conc"

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox"
)

// A session is one membership: from joining under a new id until the worker leaves, is evicted, or loses any of its
// connections. Then it ends as a whole, evicts itself, and the worker joins again. So there is one way back from every
// fault, and nothing that was read over a broken connection is ever settled.
type session struct {
	w       *Worker
	id      int64
	direct  bool
	control *pgx.Conn
	runners []*runner
	subs    []engine.Subscription

	trigger   atomic.Int64  // notifications that publishers sent, for the sentinel
	rang      chan struct{} // has a token when trigger grew
	ringer    atomic.Uint32 // the backend over which this session rings as the sentinel: it has told its own runners itself
	rewinding chan struct{} // has a token when a subscription is to go back, for the sentinel
}

// departed has the ids of sessions that could not evict themselves, because the database was away.
type departed struct{ ids []int64 }

func (d *departed) evict(ctx context.Context, conn *pgx.Conn) error {
	for len(d.ids) > 0 {
		if _, err := engine.Evict(ctx, conn, d.ids[0]); err != nil {
			return err
		}
		d.ids = d.ids[1:]
	}
	return nil
}

// session joins, serves and leaves. It reports whether it came to serve.
func (w *Worker) session(ctx context.Context, left *departed) (served bool, err error) {
	s := &session{w: w, rang: make(chan struct{}, 1), rewinding: make(chan struct{}, 1)}
	if s.control, s.direct, err = w.connect.open(ctx, "signalbox worker: control"); err != nil {
		return false, err
	}
	defer func() { shut(s.control) }()
	if err := s.join(ctx, left); err != nil {
		return false, err
	}
	left.ids = append(left.ids, s.id)

	err = s.serve(ctx)
	w.serving.Store(false)

	// Whether or not everything was settled and released, what is left of this id is removed. If that fails, the next session
	// tries again, and so does the sentinel.
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	if s.control.IsClosed() {
		if conn, _, err := w.connect.open(cleanup, "signalbox worker: control"); err == nil {
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

// join checks that database and binary belong together, and registers the worker. Nothing is left behind when it
// fails.
func (s *session) join(ctx context.Context, left *departed) error {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	if err := migrations.Outbox.Check(ctx, s.control); err != nil {
		return err
	}
	if err := engine.CheckCluster(ctx, s.control); err != nil {
		return err
	}
	if err := left.evict(ctx, s.control); err != nil {
		return err
	}
	var ids []int32
	for _, registered := range s.w.subscriptions {
		sub, err := engine.Subscribe(ctx, s.control, registered.Name, registered.Topics, registered.Start)
		if err != nil {
			return err
		}
		s.subs, ids = append(s.subs, sub), append(ids, sub.ID)
	}
	if s.direct {
		// Before the first read, so that whatever it does not see rings.
		if _, err := s.control.Exec(ctx, "listen "+outbox.Channel); err != nil {
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
	var err error
	s.id, err = engine.Join(ctx, s.control, s.w.cfg.Name, s.direct, lease, ids)
	return err
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

	reading := make(chan struct{}, 1)
	for i, sub := range s.subs {
		conn, err := s.open(parent, s.w.subscriptions[i])
		if err != nil {
			return err
		}
		defer shut(conn)
		s.runners = append(s.runners, &runner{
			log: log.With("subscription", sub.Name), worker: s.w.cfg.Name, cfg: s.w.cfg,
			sub: s.w.subscriptions[i], reading: reading, member: engine.NewMember(conn, s.id, sub), wake: newWakeups(),
			backlog: newBacklog(), parked: map[int64]*job{}, loadedAt: time.Now(), limit: s.w.cfg.Concurrency,
		})
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
	control.Go(func() {
		if err := s.beat(beating, abort, log, fail); err != nil && beating.Err() == nil {
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
		// After a fault, the lanes are about to be taken over. What can still be settled is settled, but nobody waits for long.
		patience := s.w.cfg.ShutdownTimeout
		if parent.Err() == nil {
			patience = faultPatience
		} else {
			log.Info("stopping: handlers that are running may finish", "within", patience)
		}
		select {
		case <-drained:
		case <-time.After(patience):
			log.Warn("handlers take too long to finish: cancelling them", "after", patience)
			kill(nil)
			<-drained
		}
	}
	rest()
	control.Wait()
	if err := fault.Load(); err != nil {
		return *err
	}
	return nil
}

// open returns a connection to read and settle a subscription over.
func (s *session) open(ctx context.Context, sub registration) (*pgx.Conn, error) {
	var options []func(*pgx.ConnConfig)
	if sub.tx {
		options = append(options, cancelStatements)
	}
	conn, _, err := s.w.connect.open(ctx, engine.SessionName(s.id, sub.Name), options...)
	if err != nil {
		return nil, err
	}
	if sub.tx && s.direct {
		if err := allowIdle(ctx, conn, sub.Timeout); err != nil {
			shut(conn)
			return nil, err
		}
	}
	return conn, nil
}

// errGone is what is left to say of a runner whose goroutine was ended by a handler's runtime.Goexit, as of testing.T's FailNow, or
// by the panic of a hook.
var errGone = errors.New("its goroutine was ended: a handler must return, and a hook not panic")

// faultPatience is how long handlers may go on after the session has failed.
const faultPatience = time.Second
