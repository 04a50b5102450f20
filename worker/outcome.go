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
)

func (o *outcome) Error() string {
	switch o.kind {
	case retryAfter:
		return fmt.Sprintf("retry after %v: %v", o.delay, o.cause)
	case deadLetter:
		return fmt.Sprintf("dead letter: %v", o.cause)
	default:
		return fmt.Sprintf("skipped: %v", o.cause)
	}
}

func (o *outcome) Unwrap() error { return o.cause }

// RetryAfter returns an error that schedules the next attempt after d, in place of the delay of Subscription.Retry. The attempt counts
// as a failed one, so the last one makes a dead letter. A negative d is 0. cause is recorded as the reason and may be nil.
func RetryAfter(d time.Duration, cause error) error {
	return &outcome{kind: retryAfter, delay: max(0, d), cause: orUnknown(cause)}
}

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
