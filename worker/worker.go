package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Worker serves subscriptions: it reads their events, calls their handlers, and records what is done. Run any number
// of them, in any number of processes, with the same or other subscriptions.
type Worker struct {
	cfg           Config
	connect       *connector
	subscriptions []registration
	started       atomic.Bool
	serving       atomic.Bool
}

// registration is a subscription with its handler, which is one of two.
type registration struct {
	Subscription
	each handlerFunc // for single events
	many manyFunc    // for several at once, or in the settling transaction
	tx   bool        // whether many is called with that transaction
	solo bool        // whether many takes single events only
}

// ErrNotServing says that a worker does not serve at the moment: it is starting, stopping, or cannot reach its database.
var ErrNotServing = errors.New("worker is not serving")

// New returns a worker for the database of a pool. It opens connections of its own: one, one more for each subscription, up to four for
// transactional handlers, and three more while it is the sentinel, which it can do without. They should reach PostgreSQL directly. The
// pool itself is not used.
//
// Of the pool's configuration, they have what says where to connect and as whom: hosts, database, user, password, TLS, runtime
// parameters, the functions that look up, dial and validate, BeforeConnect and AfterConnect. AfterConnect may set a role, and register
// the types that transactional handlers use. Everything else is the worker's own: handlers of notices and notifications, tracers,
// caches, modes of statements, and the settings of the sessions, whatever the role, the database or AfterConnect say. Only for
// transactional handlers, what their own statements see stays: search path, time zone, types, tracer.
//
// It returns an error that is ErrInvalidConfig for a Config that is not possible, and does not touch the database.
func New(pool *pgxpool.Pool, cfg Config) (*Worker, error) {
	if pool == nil {
		return nil, fmt.Errorf("%w: the pool is nil", ErrInvalidConfig)
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Worker{cfg: cfg, connect: &connector{
		config: pool.Config(), outbox: naming.Of(cfg.Outbox), log: cfg.Logger, lease: cfg.Lease,
	}}, nil
}

// register adds a subscription. See Handle.
func (w *Worker) register(r registration) (err error) {
	r.Subscription, err = r.withDefaults()
	switch {
	case err != nil:
		return err
	case r.each == nil && r.many == nil:
		return fmt.Errorf("%w: subscription %q has no handler", ErrInvalidConfig, r.Name)
	case w.started.Load():
		return fmt.Errorf("%w: subscription %q was registered while the worker runs", ErrInvalidConfig, r.Name)
	case slices.ContainsFunc(w.subscriptions, func(other registration) bool { return other.Name == r.Name }):
		return fmt.Errorf("%w: subscription %q is registered twice", ErrInvalidConfig, r.Name)
	}
	r.wrap()
	w.subscriptions = append(w.subscriptions, r)
	return nil
}

// Ready returns nil while the worker serves its subscriptions, and ErrNotServing otherwise. Safe for concurrent use.
func (w *Worker) Ready() error {
	if !w.serving.Load() {
		return ErrNotServing
	}
	return nil
}

// Run serves until the context is cancelled. Then it stops reading, lets handlers finish for up to
// Config.ShutdownTimeout, records what they did, gives its lanes to the others, and returns nil. A handler that
// ignores that its context was cancelled is left behind after about 2s, if its form is [Handle]; with the other forms, Run waits
// until it returns.
//
// It returns an error when it cannot start: the database cannot be reached, does not grant as many connections as the worker needs,
// or has settings that it may not change; its schema is missing or of another version (a *migrations.VersionError); or a
// subscription exists with other topics (an *outbox.TopicsError). Once it has served, it comes back by itself, however long the
// database is away: with pauses of up to 2s, or up to 30s where it is connections that are missing. But it ends, then as well, with
// outbox.ErrForeignCluster, outbox.ErrLogBehind or outbox.ErrRowSecurity when events would be lost: it notices within 5 seconds. A
// Worker runs once.
func (w *Worker) Run(ctx context.Context) error {
	if w.started.Swap(true) {
		return fmt.Errorf("%w: the worker was run before", ErrInvalidConfig)
	}
	if len(w.subscriptions) == 0 {
		return fmt.Errorf("%w: no subscription is registered", ErrInvalidConfig)
	}
	left := &departed{}
	wait, servedOnce := reconnectFirst, false
	for {
		served, err := w.session(ctx, left)
		servedOnce = servedOnce || served
		switch {
		case ctx.Err() != nil:
			if err != nil && !errors.Is(err, context.Canceled) {
				w.cfg.Logger.Warn("stopped without recording everything: the rest will be handled again", "worker", w.cfg.Name, "error", err)
			}
			return nil
		case !servedOnce, permanent(err):
			return err
		case served:
			wait = reconnectFirst
		}
		longest := reconnectLongest
		if crowded(err) {
			longest = crowdedLongest
			wait = max(wait, crowdedFirst)
		}
		wait = min(wait, longest)
		w.cfg.Logger.Warn("stopped serving, will join again", "worker", w.cfg.Name, "retry_in", wait, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait - wait/4 + rand.N(wait/2)):
		}
		wait *= 2
	}
}

const (
	reconnectFirst   = 50 * time.Millisecond
	reconnectLongest = 2 * time.Second
	// Where connections are missing, each attempt takes some from others for a moment.
	crowdedFirst, crowdedLongest = time.Second, 30 * time.Second
)

// crowded reports whether the server, the database or the role has no connections left.
func crowded(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == pgerrcode.TooManyConnections
}

// permanent reports whether trying again would change nothing.
func permanent(err error) bool {
	var (
		version *migrations.VersionError
		topics  *outbox.TopicsError
	)
	return errors.As(err, &version) || errors.As(err, &topics) ||
		errors.Is(err, outbox.ErrForeignCluster) || errors.Is(err, outbox.ErrLogBehind) || errors.Is(err, outbox.ErrRowSecurity) ||
		errors.Is(err, outbox.ErrInvalidSubscription) || errors.Is(err, outbox.ErrUnknownSubscription)
}
