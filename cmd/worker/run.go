package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
	"github.com/signalbox-go/signalbox/internal/ops"
	"github.com/signalbox-go/signalbox/metrics"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/worker"
)

const description = `Serves a subscription: handles every event that matches its topics.

Workers with the same subscription share it, in any number of processes; each other name gets every event:

	worker --subscription log
	worker --subscription log            # in another terminal: takes over half
	worker --subscription audit          # sees every event as well

A missing subscription is created, and starts at the beginning of the log. Topics are exact names, or patterns with * for one
token and > for the rest:

	worker --subscription temperatures --topics signals.created --topics 'alarms.>'

Handlers:

	log     writes a line for each event.
	rollup  keeps the count, sum, min, max and last value of the signals of each name in public.signal_rollups. Each signal
	        counts exactly once, whatever is killed; but once for each subscription, so give it only one. Its topic is
	        signals.created.
	flaky   shows what becomes of failures. It does what a signal's name says, and logs any other:
	          fail        fails, until its attempts are used up and it is a dead letter
	          fail-twice  fails two times, then succeeds
	          slow        takes 2s: its window goes on without it
	          hang        takes until its timeout, each time
	          panic       panics, each time
	          kill        kills the worker, each time: start it again, and after its attempts it is a dead letter
	          dead        is a dead letter at once
	          skip        is set aside

What is behind a failed event in its key waits for it, until it succeeds or is a dead letter; here, the key is the name.

The database needs the schema: "outbox migrate" creates it. SIGINT or SIGTERM lets running handlers finish, a second one aborts.`

type flags struct {
	Subscription    string            `required:"" placeholder:"NAME" help:"Serve this subscription; it is created where it is missing."`
	Topics          []string          `placeholder:"PATTERN" help:"Topics that the handler knows; repeat for several. A new subscription gets them, by default 'signals.>', for rollup 'signals.created'. An existing one keeps its own: the worker leaves it to others while it does not know all of them."`
	Handler         string            `default:"log" enum:"log,rollup,flaky" help:"What to do with events: log, rollup or flaky."`
	Concurrency     int               `default:"100" help:"Handlers that run at once; never two of one key."`
	Timeout         cli.DurationLimit `default:"30s" help:"What one attempt at an event may take, or unlimited."`
	MaxAttempts     cli.CountLimit    `default:"100" help:"Attempts at an event before it is a dead letter, or unlimited."`
	InitialInterval time.Duration     `default:"1s" help:"Delay before the second attempt. Later ones double it, up to 1h."`
	BreakerAfter    cli.CountLimit    `default:"20" help:"Of how many attempts nearly all have to fail before little is tried, and no attempt that fails counts until they succeed; at least 5, or unlimited for never."`
	Rate            cli.RateLimit     `default:"unlimited" help:"Attempts that may begin per second, in all workers of the subscription together, or unlimited. Give all workers the same."`
	Retention       cli.DurationLimit `default:"168h" help:"How long handled events stay in the log, such as 168h for a week, or unlimited. Give all workers the same."`
	ShutdownTimeout cli.DurationLimit `default:"30s" help:"What running handlers may take to finish when the worker is stopped, or unlimited."`
	ops.Flags
	cli.Database
	cli.Logging
}

// What package worker refuses, too, under names that are no flags'.
const (
	leastBreakerAfter = 5
	mostRate          = 1e9
)

// check refuses what the library would take for "not set", or refuse under a name that is no flag's.
func (f *flags) check() error {
	switch {
	case f.Subscription == "":
		return errors.New("--subscription is empty")
	case f.Concurrency < 1:
		return fmt.Errorf("--concurrency is %d, must be at least 1", f.Concurrency)
	case f.InitialInterval <= 0:
		return fmt.Errorf("--initial-interval is %v, must be more than 0", f.InitialInterval)
	case f.BreakerAfter > 0 && f.BreakerAfter < leastBreakerAfter:
		return fmt.Errorf("--breaker-after is %d, must be at least %d, or unlimited", f.BreakerAfter, leastBreakerAfter)
	case f.Rate > mostRate:
		return fmt.Errorf("--rate is %v, must be at most %v, or unlimited", f.Rate, mostRate)
	}
	return nil
}

// Run serves until ctx is cancelled.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var flags flags
	if _, err := cli.Parse("worker", description, &flags, args, stdout); err != nil {
		return err
	}
	if err := flags.check(); err != nil {
		return &cli.UsageError{Err: err}
	}
	logger := flags.Logger(stderr)
	slog.SetDefault(logger) // for net/http

	database, err := cli.Connect(ctx, flags.DatabaseURL)
	if err != nil {
		return err
	}
	defer database.Close()
	if err := migrations.For(flags.Outbox).Check(ctx, database); err != nil {
		return err
	}
	if flags.Handler == "rollup" {
		if err := migrations.Signals.Check(ctx, database); err != nil {
			return err
		}
	}
	topics, err := topicsOf(ctx, database, flags)
	if err != nil {
		return err
	}
	m := metrics.New(metrics.Config{Pool: database, Outbox: flags.Outbox, Logger: logger})
	cfg := worker.Config{
		Outbox: flags.Outbox,
		Logger: logger, ShutdownTimeout: time.Duration(flags.ShutdownTimeout), Retention: time.Duration(flags.Retention),
	}
	if flags.Admin != "" {
		cfg.Hooks = []worker.Hooks{m.Hooks()} // else nothing could read them
	}
	w, err := worker.New(database, cfg)
	if err != nil {
		return err
	}
	s := worker.Subscription{
		Name: flags.Subscription, Topics: topics, Concurrency: flags.Concurrency, Timeout: time.Duration(flags.Timeout),
		Retry:        worker.Retry{MaxAttempts: int(flags.MaxAttempts), InitialInterval: flags.InitialInterval},
		BreakerAfter: int(flags.BreakerAfter), Rate: float64(flags.Rate),
	}
	switch flags.Handler {
	case "rollup":
		err = worker.HandleBatchTx(w, s, rollup)
	case "flaky":
		err = worker.Handle(w, s, flaky(logger))
	default:
		err = worker.Handle(w, s, logEvent(logger))
	}
	if err != nil {
		return err
	}
	err = flags.WithAdmin(ctx, logger, ops.NewHandler(ops.NewHealth(w.Ready), m), w.Run)
	logger.Info("stopped")
	if errors.Is(err, outbox.ErrInvalidSubscription) { // its topics
		return &cli.UsageError{Err: err}
	}
	return err
}
