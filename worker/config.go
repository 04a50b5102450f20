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

	"github.com/signalbox-go/signalbox/internal/engine"
	"github.com/signalbox-go/signalbox/internal/guard"
	"github.com/signalbox-go/signalbox/outbox"
)

// Config holds the settings of a Worker, and the defaults of its subscriptions. Its zero value works.
type Config struct {
	// Logger receives one line per change and per fault, and none per event. Defaults to slog.Default().
	Logger *slog.Logger

	// Outbox is the one that the worker serves; two in one process are two workers. Defaults to the default outbox.
	Outbox outbox.Outbox

	// Name identifies the worker in logs and in "outbox status". It need not be unique. Defaults to the host name and the process id.
	Name string

	// Concurrency is the Concurrency of subscriptions that do not set it. Subscriptions do not share it: each runs as many handlers.
	// Defaults to 100.
	Concurrency int

	// WindowSize is the WindowSize of subscriptions that do not set it. Defaults to 5120.
	WindowSize int

	// ReadAheadBytes is how many bytes of events the worker keeps in memory that it has read and not handled, about, for all of its
	// subscriptions. They have equal shares, and each at least one event, so that a slow one takes nothing from others. Deliveries that are
	// worked on come on top, up to half as much. Defaults to 64 MiB.
	ReadAheadBytes int

	// PollInterval is how often the worker polls for events, whether or not it is notified. It is also the interval of its heartbeat.
	// At least 10ms. Defaults to 1s.
	PollInterval time.Duration

	// Lease is how long a frozen or unreachable worker keeps its lanes if PostgreSQL still considers it connected. At least three
	// times PollInterval. Defaults to 10s, or three times PollInterval if that is longer.
	Lease time.Duration

	// Retention is how long events stay in the log after they were published, and skipped deliveries after they were skipped. Events
	// that a subscription has yet to settle stay longer. Dead letters stay until they are retried, skipped or discarded. The sentinel
	// deletes what has expired, and any worker may become the sentinel, so set the same Retention in all of them. May be Unlimited.
	// Defaults to 7 days.
	Retention time.Duration

	// Hooks observe events and workers. They are called in the order of the list. Defaults to none.
	Hooks []Hooks

	// ShutdownTimeout is how long handlers may run after the context of Run is cancelled. Then their contexts are cancelled, too.
	// May be Unlimited. Defaults to 30s.
	ShutdownTimeout time.Duration
}

// Subscription describes the subscription that a handler is registered for. Name is required, and so are Topics if the subscription
// does not exist. All other fields have defaults.
type Subscription struct {
	// Name is the name of the subscription. Workers that register the same name share its events; each subscription receives every
	// event that matches its topics. Required.
	Name string

	// Topics are the topics that the handler knows: exact names, or patterns with * for one token and > for the rest. A new subscription
	// gets them. One that exists keeps its own, which admin.SetTopics changes: if it has others than these as well, the worker leaves it to
	// workers that know them all; if it lacks some of these, the worker receives no events of them, and says so. Required if the subscription does not
	// exist. Defaults to all topics that it has, whatever they are.
	Topics []string

	// Start is where the subscription starts if Run creates it. Ignored if it exists. Defaults to the beginning of the log.
	Start outbox.Position

	// Concurrency is how many handlers of this worker run at once for events that are read, and how many more for deliveries and parked
	// events. While that many deliveries run, as many more may be parked. Events of one key are never handled at once. HandleBatch, HandleTx and HandleBatchTx run one handler at a time. With
	// HandleAsync, it is how many events are in flight. Defaults to Config.Concurrency, or to 1000 with HandleAsync.
	Concurrency int

	// WindowSize is how many events are read at once, at most. At least one event of each lane is read, of which there are 64. Windows
	// shrink where handlers are slow, so that a window takes about half a second, and where events are large. Defaults to
	// Config.WindowSize.
	WindowSize int

	// Timeout is how long one attempt at an event may take before its context is cancelled. The context may last up to a tenth longer. May
	// be Unlimited. Defaults to 30s.
	Timeout time.Duration

	// Retry says how often and when an event is tried again. Defaults to 100 attempts with exponential backoff from 1s to 1h,
	// which takes about three days.
	Retry Retry

	// SchemaVersion is the version of payloads that the handler decodes. The version of an event is in its header "schema-version"
	// (outbox.SchemaVersionHeader); without the header, it is 1. Payloads of other versions are brought to this one by Upcasts; those that
	// cannot be, such as newer ones, do not decode. Handlers of json.RawMessage receive any version, unless SchemaVersion or Upcasts is set.
	// Defaults to the version after the last of Upcasts, or 1.
	SchemaVersion int

	// Upcasts are the steps from one version of payloads to the next, by the version that they begin with. Defaults to none.
	Upcasts map[int]Upcast

	// OnDecodeError says what becomes of events whose payloads do not decode. Defaults to RetryDecodeErrors.
	OnDecodeError DecodeErrorPolicy

	// BreakerAfter is how many of this worker's last attempts the circuit breaker looks at. If at least nine in ten of them have failed, at
	// events of at least five keys (but not ones that had failed before others succeeded), what the handlers call is taken to be down: the worker reads and tries little until attempts
	// succeed, and those that fail meanwhile do not count, so that an outage makes no dead letters. At least 5; Unlimited turns it
	// off. The breaker is the subscription's or, where attempts at events of other topics succeed, a topic's: then the worker reads on, and
	// events of that topic wait as deliveries. Defaults to 20.
	BreakerAfter int

	// MaxUnfinished is how many deliveries may fail, or wait behind one that does or for their topic. Each of the 64 lanes has a 64th of it: one that
	// has more is not read further until it has half of that. At least 64. Defaults to 1,000,000.
	MaxUnfinished int

	// Rate is how many attempts may begin per second, in all workers of the subscription together, for example because what the handlers
	// call has a limit. Each worker has the share of the lanes that it owns. It is an upper bound of the mean: events of few keys may get
	// less, and handlers of a frozen worker may come on top until its lanes are taken over. Each event of HandleBatch and HandleBatchTx
	// counts. Set the same Rate in all workers. May be Unlimited. Defaults to Unlimited.
	Rate float64

	// RateBurst is how many attempts may begin at once after a pause, in all workers together. Defaults to Rate, and at least 1.
	RateBurst int

	// ParkAfter is how long a handler may hold up its window. The handler of a slower event continues; its event becomes a delivery,
	// and the window is settled without it. Only Handle and HandleAsync park. If ParkAfter is longer than 1s, windows of Handle and HandleTx may take
	// as long. A strict HandleAsync parks the last few of a window sooner, while others wait for it. May be Unlimited. Defaults to 1s.
	ParkAfter time.Duration

	// Middleware wraps the handler, of any form but HandleAsync. The first element is the outermost. Defaults to none.
	Middleware []Middleware

	// SendsTo says where the handler sends events, for people: "outbox status" and the dashboard show it. It must have no secrets. relay.Handle
	// asks the sink. Defaults to "".
	SendsTo string
	// AsyncMiddleware wraps the handler of HandleAsync. The first element is the outermost. Defaults to none.
	AsyncMiddleware []AsyncMiddleware

	// StopKeyOnDead makes later events of a key wait behind a dead letter until it is retried, skipped or discarded. Defaults to
	// false: a dead letter does not hold up its key.
	StopKeyOnDead bool
}

// Unlimited means no limit, in those fields of Config, Subscription and Retry that say "May be Unlimited". Any negative value means the
// same in these fields, and is an error in others, but for Retry.Jitter. Zero always means the default.
const Unlimited = -1

// ErrInvalidConfig is wrapped by every error about a Config, a Subscription, or a misuse of a Worker.
var ErrInvalidConfig = errors.New("invalid configuration")

// unlimited is what is in place of an Unlimited duration, or of one that is longer than anything lasts, so that it may be compared and added to.
const unlimited time.Duration = math.MaxInt64

// limit returns the duration of a field that may be Unlimited.
func limit(d, fallback time.Duration) time.Duration {
	if d < 0 || d > unlimited/4 {
		return unlimited
	}
	return cmp.Or(d, fallback)
}

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
	case s.Rate != s.Rate || s.Rate > 1e9:
		return refuse("Rate is not a number, or more than a billion")
	case s.RateBurst < 0:
		return refuse("RateBurst is negative")
	case s.BreakerAfter > 0 && s.BreakerAfter < breakerLeast:
		return refuse(fmt.Sprintf("BreakerAfter is less than %d", breakerLeast))
	case s.MaxUnfinished != 0 && s.MaxUnfinished < engine.Lanes:
		return refuse(fmt.Sprintf("MaxUnfinished is less than %d", engine.Lanes))
	case s.OnDecodeError != RetryDecodeErrors && s.OnDecodeError != DeadLetterDecodeErrors:
		return refuse("OnDecodeError is neither RetryDecodeErrors nor DeadLetterDecodeErrors")
	case s.SchemaVersion < 0:
		return refuse("SchemaVersion is negative")
	case payloadsOf(&s).gap() != "":
		return refuse(payloadsOf(&s).gap())
	case slices.ContainsFunc(s.Middleware, func(m Middleware) bool { return m == nil }):
		return refuse("Middleware has a nil")
	case slices.ContainsFunc(s.AsyncMiddleware, func(m AsyncMiddleware) bool { return m == nil }):
		return refuse("AsyncMiddleware has a nil")
	}
	s.SendsTo = firstLine(shorten(s.SendsTo))
	s.Concurrency = cmp.Or(s.Concurrency, c.Concurrency)
	s.WindowSize = cmp.Or(s.WindowSize, c.WindowSize)
	s.Timeout = limit(s.Timeout, 30*time.Second)
	s.ParkAfter = limit(s.ParkAfter, time.Second)
	s.Rate = max(0, s.Rate)
	s.RateBurst = cmp.Or(s.RateBurst, max(1, int(s.Rate)))
	s.BreakerAfter = max(0, cmp.Or(s.BreakerAfter, 20))
	s.MaxUnfinished = cmp.Or(s.MaxUnfinished, 1_000_000)
	if r.MaxAttempts = cmp.Or(r.MaxAttempts, 100); r.MaxAttempts < 0 {
		r.MaxAttempts = unlimitedAttempts
	}
	r.InitialInterval = cmp.Or(r.InitialInterval, time.Second)
	r.Multiplier = cmp.Or(r.Multiplier, 2)
	r.MaxInterval = cmp.Or(r.MaxInterval, max(time.Hour, r.InitialInterval))
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
	}{{"Concurrency", &c.Concurrency, 100}, {"WindowSize", &c.WindowSize, 5120}, {"ReadAheadBytes", &c.ReadAheadBytes, 64 << 20}} {
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
			return c, fmt.Errorf("%w: %s is %v, must be at least %v", ErrInvalidConfig, field.name, *field.value, field.least)
		}
	}
	if c.Lease < 3*c.PollInterval {
		return c, fmt.Errorf("%w: Lease is %v, must be at least three times PollInterval (%v)", ErrInvalidConfig, c.Lease, c.PollInterval)
	}
	c.ShutdownTimeout = limit(c.ShutdownTimeout, 30*time.Second)
	c.Retention = cmp.Or(c.Retention, 7*24*time.Hour)
	return c, nil
}
