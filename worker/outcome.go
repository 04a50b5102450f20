package worker

import (
	"errors"
	"fmt"
	"time"
)

// An outcome is what a handler's error says should become of the event, beyond being tried again some time.
type outcome struct {
	kind  outcomeKind
	delay time.Duration
	cause error
}

type outcomeKind int

const (
	retryAfter outcomeKind = iota
	deadLetter
	skip
	snooze
	pause
	outage
	forOthers // what this worker does not know, and another may
)

func (o *outcome) Error() string {
	switch o.kind {
	case retryAfter:
		return fmt.Sprintf("retry after %v: %v", o.delay, o.cause)
	case deadLetter:
		return fmt.Sprintf("dead letter: %v", o.cause)
	case snooze:
		return fmt.Sprintf("snoozed for %v", o.delay)
	case pause:
		return fmt.Sprintf("pause for %v: %v", o.delay, o.cause)
	case forOthers:
		return o.cause.Error()
	case outage:
		return fmt.Sprintf("outage: %v", o.cause)
	default:
		return fmt.Sprintf("skipped: %v", o.cause)
	}
}

func (o *outcome) Unwrap() error { return o.cause }

// ErrorType names the outcome where errors are told apart by their kind, as by OpenTelemetry's attribute error.type.
func (o *outcome) ErrorType() string {
	return [...]string{retryAfter: "retry_after", deadLetter: "dead_letter", skip: "skip", snooze: "snooze", pause: "pause", outage: "outage", forOthers: "undecoded"}[o.kind]
}

// RetryAfter returns an error that schedules the next attempt after d, in place of the delay of Subscription.Retry. The attempt counts
// as a failed one, so the last one makes a dead letter; [Snooze] and [PauseFor] do not count. A negative d is 0. cause is recorded as the reason and may be nil.
func RetryAfter(d time.Duration, cause error) error {
	return &outcome{kind: retryAfter, delay: max(0, d), cause: orUnknown(cause)}
}

// Snooze returns an error that has the event handled again after d. It is neither a failure nor an attempt: the next attempt has the
// same number, and nothing is logged. Later events of its key wait for it. A negative d is 0.
func Snooze(d time.Duration) error {
	return &outcome{kind: snooze, delay: max(0, d), cause: errors.New("snoozed")}
}

// PauseFor returns an error after which this worker begins no event of the subscription before d has passed: for services that answer
// with status 429 or 503 and a Retry-After header. The event is handled again afterwards, and as with [Snooze] this uses up no
// attempt. Handlers that are running continue. Other workers of the subscription find out for themselves. A negative d is 0. The cause
// is logged, shown as the subscription's last failure, and may be nil.
func PauseFor(d time.Duration, cause error) error {
	return &outcome{kind: pause, delay: max(0, d), cause: orUnknown(cause)}
}

// Outage returns an error that says that what the handler calls is away, or refuses everybody: wrong credentials, an unknown stream. It is
// not the event's fault: no attempt is used up, the subscription's breaker opens at once, and the event is handled again within 5s after it
// closes. Without a breaker, the event is handled again after 5s, and nothing else waits. See Subscription.BreakerAfter. cause is
// recorded as the reason and may be nil.
func Outage(cause error) error { return &outcome{kind: outage, cause: orUnknown(cause)} }

// DeadLetter returns an error that makes the event a dead letter at once, without further attempts. It is kept until it is retried,
// skipped or discarded. cause is recorded as the reason and may be nil.
func DeadLetter(cause error) error { return &outcome{kind: deadLetter, cause: orUnknown(cause)} }

// Skip returns an error that sets the event aside without counting it as failed: it is kept in state skipped until Config.Retention is
// over, and does not hold up its key. reason is recorded.
func Skip(reason string) error { return &outcome{kind: skip, cause: errors.New(reason)} }

func orUnknown(cause error) error {
	if cause == nil {
		return errors.New("no reason was given")
	}
	return cause
}
