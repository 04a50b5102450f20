package worker

import (
	"context"
	"errors"
	"runtime/debug"
	"time"
)

// try runs one attempt, and returns nil only if the handler returned nil. What panics on the way, in the handler, its middleware, the
// payload's UnmarshalJSON or the methods of the error, is a failure. If something calls runtime.Goexit, try does not return.
func try(ctx context.Context, handler handlerFunc, j *job) *failure {
	f := attempt(func() error { return handler(ctx, &j.event.Event, j.attempt) })
	if f != nil && errors.Is(context.Cause(ctx), errAttemptTimeout) {
		return f.timedOut()
	}
	return f
}

// attempt calls the application's code, and reads the error that it returns.
func attempt(call func() error) (f *failure) {
	defer func() {
		if value := recover(); value != nil {
			f = panicked(value, debug.Stack())
		}
	}()
	if err := call(); err != nil {
		return failureOf(err)
	}
	return nil
}

// errAttemptTimeout is the cause of a context whose attempt has had its time.
var errAttemptTimeout error = attemptTimeout{}

type attemptTimeout struct{}

func (attemptTimeout) Error() string { return "attempt took longer than the subscription's timeout" }

// ErrorType names the error as that of an outcome does.
func (attemptTimeout) ErrorType() string { return "timeout" }

// deadlineSpare is which part of the timeout an attempt may have on top of it.
const deadlineSpare = 10

// deadlines returns a function that lends contexts which end when an attempt has had its time, and one that ends the
// last of them. A timer for each event would cost more than handling a small one, so attempts that follow each other
// quickly share a context, which has a tenth of the timeout to spare. Both are for a single goroutine; now is the time since
// any fixed moment.
func deadlines(ctx context.Context, timeout time.Duration) (lend func(now time.Duration) context.Context, end func()) {
	if timeout == unlimited {
		return func(time.Duration) context.Context { return ctx }, func() {}
	}
	var (
		lent   context.Context
		cancel context.CancelFunc = func() {}
		until  time.Duration
		spare  = timeout / deadlineSpare
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
