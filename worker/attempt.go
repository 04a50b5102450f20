package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sourcegraph/conc/panics"
)

// try runs one attempt. What it returns is nil only if the handler returned nil.
func try(ctx context.Context, handler handlerFunc, j *job) (err error) {
	if recovered := panics.Try(func() { err = handler(ctx, &j.event.Event, j.attempt) }); recovered != nil {
		return panicked(recovered)
	}
	if err != nil && errors.Is(context.Cause(ctx), errAttemptTimeout) {
		return fmt.Errorf("%w: %w", errAttemptTimeout, err)
	}
	return err
}

// panicked is the error of a handler, or of what was put around it, that panicked.
func panicked(recovered *panics.Recovered) error {
	return fmt.Errorf("handler panicked: %v\n%s", recovered.Value, recovered.Stack)
}

var errAttemptTimeout = errors.New("attempt took longer than the subscription's timeout")

// deadlines returns a function that lends contexts which end when an attempt has had its time, and one that ends the
// last of them. A timer for each event would cost more than handling a small one, so attempts that follow each other
// quickly share a context, which has a tenth of the timeout to spare. Both are for a single goroutine; now is the time since
// any fixed moment.
func deadlines(ctx context.Context, timeout time.Duration) (lend func(now time.Duration) context.Context, end func()) {
	if timeout == NoTimeout {
		return func(time.Duration) context.Context { return ctx }, func() {}
	}
	var (
		lent   context.Context
		cancel context.CancelFunc = func() {}
		until  time.Duration
		spare  = timeout / 10
	)
	return func(now time.Duration) context.Context {
		if lent == nil || lent.Err() != nil || now > until {
			cancel()
			lent, cancel = context.WithTimeoutCause(ctx, timeout+spare, errAttemptTimeout)
			until = now + spare
		}
		return lent
	}, func() { cancel() }
}
