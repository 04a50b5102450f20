package worker

import (
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/internal/guard"
)

// A failure is why an attempt did not succeed. The methods of a handler's error are the application's code: they are called once,
// where that is guarded, and what they said is kept.
type failure struct {
	text    string   // of the error, as short as it is kept
	outcome *outcome // what the error asks for, if it asks for anything
	err     error    // the error itself, for hooks and middleware
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

// cause is the handler's error.
func (f *failure) cause() error {
	if f.err == nil {
		return f
	}
	return f.err
}

// errGoexit says that a handler ended the goroutine it was called on, as t.FailNow and its relatives do.
var errGoexit = &failure{text: "handler called runtime.Goexit, as the FailNow of a test does: it must return"}

// failureOf reads a handler's error. The caller guards it.
func failureOf(err error) *failure {
	if f, read := err.(*failure); read { //nolint:errorlint // one that was wrapped has more to say
		return f
	}
	f := &failure{err: err}
	errors.As(err, &f.outcome)
	f.text = shorten(err.Error())
	return f
}

// panicked is the failure of a handler, of what was put around it, or of its error's methods.
func panicked(value any, stack []byte) *failure {
	text := fmt.Sprintf("handler panicked: %v", value)
	return &failure{text: shorten(text + "\n" + string(stack)), err: errors.New(text)}
}

// faulty is the failure of a call of the application's code that panicked or ended its goroutine.
func faulty(err error) *failure {
	var p *guard.PanicError
	if errors.As(err, &p) {
		return panicked(p.Text, p.Stack)
	}
	return errGoexit
}

// timedOut says that an attempt failed after its time.
func (f *failure) timedOut() *failure {
	late := *f
	late.text = shorten(errAttemptTimeout.Error() + ": " + f.text)
	late.err = fmt.Errorf("%w: %w", errAttemptTimeout, f.cause())
	return &late
}

// delay is how long an event waits after so many failed attempts. A Retry.Delay that panics is no reason to lose the attempt's own
// reason: it is noted behind that, and the event waits as it would without one.
func (f *failure) delay(r Retry, failed int, chance float64) (time.Duration, *failure) {
	if r.Delay == nil {
		return r.after(failed, chance), f
	}
	var delay time.Duration
	err := guard.Call(func() { delay = r.Delay(failed) })
	if err == nil {
		return max(0, delay), f
	}
	noted := *f
	noted.text = shorten(fmt.Sprintf("%s\nRetry.Delay: %v", f.text, err))
	r.Delay = nil
	return r.after(failed, chance), &noted
}
