package guard

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// ErrGoexit says that a function ended its goroutine.
var ErrGoexit = errors.New("it called runtime.Goexit")

// A PanicError says that a function panicked.
type PanicError struct {
	Text  string // what it panicked with, as short as errors are kept
	Stack []byte
}

func (p *PanicError) Error() string { return "panic: " + p.Text }

// maxText is how many bytes are kept of what a function panicked with: it may be a whole response.
const maxText = 8 << 10

// Call calls f and returns nil if f returns, a *[PanicError] if it panics, or [ErrGoexit].
//
// It calls f on another goroutine, because nothing keeps Goexit from ending the one that calls it, and waits for it.
func Call(f func()) error {
	ended := make(chan error, 1)
	go func() {
		err := ErrGoexit
		defer func() {
			_ = recover() // the value's own methods may panic, too
			ended <- err
		}()
		defer func() {
			if value := recover(); value != nil {
				panicked := &PanicError{Text: fmt.Sprintf("%T", value), Stack: debug.Stack()}
				err = panicked
				if panicked.Text = fmt.Sprint(value); len(panicked.Text) > maxText {
					panicked.Text = panicked.Text[:maxText] + " …"
				}
			}
		}()
		f()
		err = nil
	}()
	return <-ended
}
