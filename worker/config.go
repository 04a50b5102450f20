package worker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/internal/guard"
	"github.com/signalbox-go/signalbox/outbox"
)

// Config holds what is common to all subscriptions of a Worker. Its zero value works.
type Config struct {
	// Logger receives one line for each change and each fault, none for each event. Defaults to slog.Default().
	Logger *slog.Logger

	// Name tells workers apart in logs and in "outbox status". It need not be unique. Defaults to the host's name and the
	// process id.
	Name string

	// Concurrency is the Concurrency of subscriptions that have none of their own. Each subscription has its own handlers: they are
	// not shared. Defaults to 100.
	Concurrency int

	// WindowSize is the WindowSize of subscriptions that have none of their own. Defaults to 5120.
	WindowSize int

	// PollInterval is how often the worker looks for itself, whatever it hears. It is also its heartbeat. At least
	// 10ms. Defaults to 1s.
	PollInterval time.Duration

	// Lease is how long a worker keeps its lanes that is frozen (by SIGSTOP, say) or cut off, while the server still believes in
	// its connection. At least three times PollInterval. Defaults to 10s.
	Lease time.Duration

	// Retention is how long events stay in the log after they were published. Those that some subscription has yet to settle
	// stay longer, and dead letters until somebody decides about them. Skipped deliveries are deleted this long after they were
	// skipped. The worker that is the sentinel deletes, so give all workers the same. May be Unlimited. Defaults to 7 days.
	Retention time.Duration

	// Hooks observe events and workers, in the order of the list. Defaults to none.
	Hooks []Hooks

	// ShutdownTimeout is how long handlers may go on after Run's context was cancelled, before their contexts are cancelled, too.
	// May be Unlimited. Defaults to 30s.
	ShutdownTimeout time.Duration
}

// Subscription is what a handler is registered for.
type Subscription struct {
	// Name is the subscription's. Workers of one subscription share its events; each subscription sees all of them. Required.
	Name string

	// Topics are what it sees: exact names, or patterns with * for one token and > for the rest. Required where the
	// subscription may have to be created. It is an error if an existing one has others: they cannot change.
	Topics []string

	// Start is where it begins if it has to be created. Defaults to the beginning of the log.
	Start outbox.Position

	// Concurrency is how many handlers run at once in this worker, and how many more may be parked. Those of one key never run at
	// once. Handlers that take a slice, or a transaction, run one at a time. Defaults to Config.Concurrency.
	Concurrency int

	// WindowSize is how many events are read at once, at most, but for one of each lane, of which there are 64. Windows shrink by
	// themselves where handlers are slow, so that one takes about a second, and where events are large. Defaults to
	// Config.WindowSize.
	WindowSize int

	// Timeout is how long one attempt at an event may take, give or take a tenth, before its context is cancelled.
	// May be Unlimited. Defaults to 30s.
	Timeout time.Duration

	// Retry says how often, and after how long, an event is tried again.
	Retry Retry

	// ParkAfter is how long a handler may hold up its window. A slower event goes on undisturbed, with a row of its own, while
	// the window is settled without it. May be Unlimited. Defaults to 1s.
	ParkAfter time.Duration

	// Middleware wraps each call of the handler, the first one outermost. Defaults to none.
	Middleware []Middleware

	// StopKeyOnDead makes the events of a key wait behind a dead letter, until somebody retries, skips or discards it.
	// Defaults to false: a dead letter does not hold up its key.
	StopKeyOnDead bool
}

// Unlimited means that there is no limit, in fields of Config, Subscription and Retry whose comments say that they may be Unlimited.
// Any other negative value means the same there, and is an error elsewhere. Zero always means the default.
const Unlimited = -1

// unlimited is what is in place of an Unlimited duration, or of one that is longer than anything lasts, so that it may be compared and added to.
const unlimited time.Duration = math.MaxInt64

// limit returns the duration of a field that may be Unlimited.
func limit(d, fallback time.Duration) time.Duration {
	if d < 0 || d > unlimited/4 {
		return unlimited
	}
	return cmp.Or(d, fallback)
}

// ErrInvalidConfig is wrapped by every error about a Config or a Subscription.
var ErrInvalidConfig = errors.New("invalid configuration")

// withDefaults returns a checked copy of s without zero fields. Its worker's configuration has the defaults that they share.
func (s Subscription) withDefaults(c Config) (Subscription, error) {
	refuse := func(what string) (Subscription, error) {
		return s, fmt.Errorf("%w: subscription %q: %s", ErrInvalidConfig, s.Name, what)
	}
	r := &s.Retry
	switch {
	case s.Name == "":
		return s, fmt.Errorf("%w: a subscription has no Name", ErrInvalidConfig)
	case s.Concurrency < 0:
		return refuse("Concurrency is negative")
	case s.WindowSize < 0:
		return refuse("WindowSize is negative")
	case r.InitialInterval < 0:
		return refuse("Retry.InitialInterval is negative")
	case r.Multiplier != 0 && !(r.Multiplier >= 1): // nor is it NaN
		return refuse("Retry.Multiplier is less than 1")
	case r.MaxInterval != 0 && r.MaxInterval < r.InitialInterval:
		return refuse("Retry.MaxInterval is less than InitialInterval")
	case r.Jitter > 1 || r.Jitter != r.Jitter:
		return refuse("Retry.Jitter is more than 1")
	case slices.ContainsFunc(s.Middleware, func(m Middleware) bool { return m == nil }):
		return refuse("Middleware has a nil")
	}
	s.Concurrency = cmp.Or(s.Concurrency, c.Concurrency)
	s.WindowSize = cmp.Or(s.WindowSize, c.WindowSize)
	s.Timeout = limit(s.Timeout, 30*time.Second)
	s.ParkAfter = limit(s.ParkAfter, time.Second)
	if r.MaxAttempts = cmp.Or(r.MaxAttempts, 20); r.MaxAttempts < 0 {
		r.MaxAttempts = unlimitedAttempts
	}
	r.InitialInterval = cmp.Or(r.InitialInterval, time.Second)
	r.Multiplier = cmp.Or(r.Multiplier, 2)
	r.MaxInterval = cmp.Or(r.MaxInterval, max(5*time.Minute, r.InitialInterval))
	r.Jitter = max(0, cmp.Or(r.Jitter, 0.25))
	return s, nil
}

// withDefaults returns a checked copy of c without zero fields.
func (c Config) withDefaults() (Config, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = guard.Logger(c.Logger)
	c.Hooks = slices.Clone(c.Hooks)
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "worker"
		}
		c.Name = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	for _, field := range []struct {
		name     string
		value    *int
		fallback int
	}{{"Concurrency", &c.Concurrency, 100}, {"WindowSize", &c.WindowSize, 5120}} {
		if *field.value < 0 {
			return c, fmt.Errorf("%w: %s is negative", ErrInvalidConfig, field.name)
		}
		if *field.value == 0 {
			*field.value = field.fallback
		}
	}
	for _, field := range []struct {
		name            string
		value           *time.Duration
		least, fallback time.Duration
	}{
		{"PollInterval", &c.PollInterval, 10 * time.Millisecond, time.Second},
		{"Lease", &c.Lease, 0, max(10*time.Second, 3*c.PollInterval)},
	} {
		if *field.value == 0 {
			*field.value = field.fallback
		}
		if *field.value < field.least {
			return c, fmt.Errorf("%w: %s is %v, at least %v is needed", ErrInvalidConfig, field.name, *field.value, field.least)
		}
	}
	if c.Lease < 3*c.PollInterval {
		return c, fmt.Errorf("%w: Lease is %v, at least three times PollInterval (%v) is needed", ErrInvalidConfig, c.Lease, c.PollInterval)
	}
	c.ShutdownTimeout = limit(c.ShutdownTimeout, 30*time.Second)
	c.Retention = cmp.Or(c.Retention, 7*24*time.Hour)
	return c, nil
}
