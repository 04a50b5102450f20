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

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox"
)

// A Worker serves subscriptions: it reads their events, calls their handlers, and records the results. Any number of workers, in any
// number of processes, may serve the same or other subscriptions. Register handlers with [Handle], [HandleBatch], [HandleTx],
// [HandleBatchTx] or [HandleAsync], from one goroutine, then call Run.
type Worker struct {
	cfg           Config
	connect       *connector
	subscriptions []registration
	started       atomic.Bool
	serving       atomic.Bool
}

// registration is a subscription with its handler, which is one of three.
type registration struct {
	Subscription
	each      handlerFunc // for single events
	begin     beginFunc   // the same, answered later
	many      manyFunc    // for several at once, or in the settling transaction
	tx        bool        // whether many is called with that transaction
	solo      bool        // whether many takes single events only
	pipelined bool        // whether begin is called for a key while others of it are in flight
}

// firstWindow is how many events are read before it is known how quickly they are handled.
func (r *registration) firstWindow() int { return min(r.Concurrency, r.WindowSize) }

// ErrStandby is returned by a worker that starts at a standby, where nothing can be published or handled. One that has served before waits
// until the server is promoted, or until its address leads to a primary.
var ErrStandby = engine.ErrStandby

// ErrNotServing is returned by [Worker.Ready] while the worker starts, stops, or cannot reach its database.
var ErrNotServing = errors.New("worker is not serving")

// New returns a worker for the database of pool. An invalid Config returns an error that wraps ErrInvalidConfig. New does not connect.
//
// The worker opens connections of its own and does not use those of the pool: three, whatever the number of subscriptions; up to four
// for transactional handlers; two more while deliveries are worked on; and two while it is the sentinel. It can do without the last
// four. They should reach PostgreSQL directly, not through a pooling proxy: behind one, the worker opens one connection, and another for
// each subscription.
//
// Its connections take from the pool's configuration where to connect and as whom: hosts, database, user, password, TLS, runtime
// parameters, the lookup, dial and validation functions, BeforeConnect and AfterConnect. AfterConnect may set a role, and register types
// for transactional handlers. The worker determines all else: notice and notification handlers, tracers, caches, the mode of queries,
// and session settings, whatever the role, the database or AfterConnect set. Connections of transactional handlers keep the search
// path, the time zone, the types and the tracer.
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
	r.Subscription, err = r.withDefaults(w.cfg)
	switch {
	case err != nil:
		return err
	case r.each == nil && r.begin == nil && r.many == nil:
		return fmt.Errorf("%w: subscription %q has no handler", ErrInvalidConfig, r.Name)
	case w.started.Load():
		return fmt.Errorf("%w: subscription %q was registered while the worker runs", ErrInvalidConfig, r.Name)
	case slices.ContainsFunc(w.subscriptions, func(other registration) bool { return other.Name == r.Name }):
		return fmt.Errorf("%w: subscription %q is registered twice", ErrInvalidConfig, r.Name)
	}
	if r.begin != nil {
		r.ParkAfter = min(r.ParkAfter, r.Timeout) // what is never answered is found among what is parked
	}
	if err := r.wrap(); err != nil {
		return err
	}
	w.subscriptions = append(w.subscriptions, r)
	return nil
}

// Ready returns nil while the worker serves its subscriptions, and ErrNotServing otherwise. It is safe for concurrent use.
func (w *Worker) Ready() error {
	if !w.serving.Load() {
		return ErrNotServing
	}
	return nil
}

// Run serves the registered subscriptions until ctx is cancelled. Then it stops reading, waits up to Config.ShutdownTimeout for handlers
// to finish, records their results, releases its lanes to other workers, and returns nil. A handler of [Handle] or [HandleAsync] that ignores its
// cancelled context is left running after about 2s; Run waits for handlers of the other forms.
//
// Run returns an error if it cannot start: if the database cannot be reached, is a standby (ErrStandby), grants too few connections,
// or has settings that the worker may not change; if the schema is missing or has another version (*migrations.VersionError); if the outbox uses a feature that
// the worker does not know (admin.ErrUnknownFeature); if a subscription does not exist and has no Topics
// (outbox.ErrUnknownSubscription), or cannot be created (outbox.ErrInvalidSubscription, outbox.ErrInvalidPosition). Once it has served,
// it reconnects after a failure, however long the database is away or a standby, with pauses of up to 2s, or up to 30s if connections are
// short. It returns the errors about versions, features and subscriptions, outbox.ErrForeignCluster, outbox.ErrLogBehind,
// outbox.ErrRowSecurity, and *outbox.TopicsError if topics are changed behind the cursors, at any time; the latter four, and
// *migrations.VersionError, within 5 seconds of when events could be lost.
//
// A Worker runs once: a second call of Run returns an error that wraps ErrInvalidConfig.
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
		errors.Is(err, engine.ErrUnknownFeature) || errors.Is(err, outbox.ErrForeignCluster) || errors.Is(err, outbox.ErrLogBehind) || errors.Is(err, outbox.ErrRowSecurity) ||
		errors.Is(err, outbox.ErrInvalidSubscription) || errors.Is(err, outbox.ErrUnknownSubscription)
}
