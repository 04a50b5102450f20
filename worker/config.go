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

	// Outbox is the one that the worker serves; two in one process are two workers. Defaults to the default outbox.
	Outbox outbox.Outbox

	// Name tells workers apart in logs and in "outbox status". It need not be unique. Defaults to the host's name and the
	// process id.
	Name string

	// Concurrency is how many handlers of one subscription run at once, and how many more may be parked. Those of one key
	// never run at once. Defaults to 100.
	Concurrency int

	// WindowSize is how many events of one subscription are read at once, at most. Windows shrink by themselves where
	// handlers are slow, so that one takes about a second, and where events are large. Defaults to 5120.
	WindowSize int

	// PollInterval is how often the worker looks for itself, whatever it hears. It is also its heartbeat. At least
	// 10ms. Defaults to 1s.
	PollInterval time.Duration

	// Lease is how long a worker keeps its lanes that is frozen (by SIGSTOP, say) or cut off, while the server still believes in
	// its connection. At least three times PollInterval. Defaults to 10s.
	Lease time.Duration

	// Retention is how long events stay in the log after they were published. Those that some subscription has yet to settle
	// stay longer, and dead letters until somebody decides about them. Skipped deliveries are deleted this long after they were
	// skipped. The worker that is the sentinel deletes, so give all workers the same. KeepForever, or any negative value, keeps
	// everything. Defaults to 7 days.
	Retention time.Duration

	// Hooks are called when something becomes of events or workers. Defaults to none.
	Hooks Hooks

	// ShutdownTimeout is how long handlers may go on after Run's context was cancelled, before their contexts are cancelled, too.
	// Defaults to 30s.
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

	// Timeout is how long one attempt at an event may take, give or take a tenth, before its context is cancelled.
	// Defaults to 30s. NoTimeout stands for none.
	Timeout time.Duration

	// Retry says how often, and after how long, an event is tried again.
	Retry Retry

	// ParkAfter is how long a handler may hold up its window. A slower event goes on undisturbed, with a row of its own, while
	// the window is settled without it. Defaults to 1s.
	ParkAfter time.Duration

	// Middleware wraps each call of the handler, the first one outermost. Defaults to none.
	Middleware []Middleware

	// StopKeyOnDead makes the events of a key wait behind a dead letter, until somebody retries, skips or discards it.
	// Defaults to false: a dead letter does not hold up its key.
	StopKeyOnDead bool
}

// KeepForever keeps anything from being deleted because of its age.
const KeepForever time.Duration = -1

// NoTimeout lets an attempt take as long as it likes.
const NoTimeout time.Duration = math.MaxInt64

// ErrInvalidConfig is wrapped by every error about a Config or a Subscription.
var ErrInvalidConfig = errors.New("invalid configuration")

// withDefaults returns a checked copy of s without zero fields.
func (s Subscription) withDefaults() (Subscription, error) {
	refuse := func(what string) (Subscription, error) {
		return s, fmt.Errorf("%w: subscription %q: %s", ErrInvalidConfig, s.Name, what)
	}
	r := &s.Retry
	switch {
	case s.Name == "":
		return s, fmt.Errorf("%w: a subscription has no Name", ErrInvalidConfig)
	case s.Timeout < 0:
		return refuse("Timeout is negative")
	case s.ParkAfter < 0:
		return refuse("ParkAfter is negative")
	case r.Attempts < 0:
		return refuse("Retry.Attempts is negative")
	case r.First < 0:
		return refuse("Retry.First is negative")
	case r.Factor != 0 && r.Factor < 1:
		return refuse("Retry.Factor is less than 1")
	case r.Longest != 0 && r.Longest < r.First:
		return refuse("Retry.Longest is less than First")
	case r.Jitter > 1:
		return refuse("Retry.Jitter is more than 1")
	case slices.ContainsFunc(s.Middleware, func(m Middleware) bool { return m == nil }):
		return refuse("Middleware has a nil")
	}
	s.Timeout = cmp.Or(s.Timeout, 30*time.Second)
	s.ParkAfter = cmp.Or(s.ParkAfter, time.Second)
	r.Attempts = cmp.Or(r.Attempts, 20)
	r.First = cmp.Or(r.First, time.Second)
	r.Factor = cmp.Or(r.Factor, 2)
	r.Longest = cmp.Or(r.Longest, max(5*time.Minute, r.First))
	r.Jitter = max(0, cmp.Or(r.Jitter, 0.25))
	return s, nil
}

// withDefaults returns a checked copy of c without zero fields.
func (c Config) withDefaults() (Config, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = guard.Logger(c.Logger)
	if c.Outbox != (outbox.Outbox{}) {
		c.Logger = c.Logger.With("outbox", c.Outbox.String())
	}
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
		{"ShutdownTimeout", &c.ShutdownTimeout, 0, 30 * time.Second},
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
	c.Retention = cmp.Or(c.Retention, 7*24*time.Hour)
	return c, nil
}
