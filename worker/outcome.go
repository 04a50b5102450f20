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

// RetryAfter makes the event be tried again after d, whatever the subscription's policy says. The attempt counts. cause says
// why, and may be nil.
func RetryAfter(d time.Duration, cause error) error {
	return &outcome{kind: retryAfter, delay: max(0, d), cause: orUnknown(cause)}
}

// DeadLetter gives the event up at once: it is kept as a dead letter with the cause, until somebody retries, skips or discards it.
func DeadLetter(cause error) error { return &outcome{kind: deadLetter, cause: orUnknown(cause)} }

// Skip sets the event aside for a reason, without calling that a failure: it is kept as skipped, and does not hold up its key.
func Skip(reason string) error { return &outcome{kind: skip, cause: errors.New(reason)} }

func orUnknown(cause error) error {
	if cause == nil {
		return errors.New("no reason was given")
	}
	return cause
}
