package cli

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Signals that come together are one request to stop, however many they are; a later one is another.
func TestObey(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		same []time.Duration // when those signals come that belong to the first, after it
		next time.Duration   // and the first that does not
	}{
		"alone":            {nil, time.Hour},
		"at once":          {[]time.Duration{0}, time.Hour},
		"a moment later":   {[]time.Duration{time.Microsecond, time.Millisecond}, oneRequest + time.Millisecond},
		"again and again":  {[]time.Duration{0, 0, 0, 100 * time.Millisecond, oneRequest - 1}, oneRequest + 1},
		"with no patience": {nil, oneRequest + 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				signals := make(chan os.Signal, 2)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				begun := time.Now()
				send := func(s os.Signal) { // as the runtime does: what has no room is dropped
					select {
					case signals <- s:
					default:
					}
				}
				got := make(chan stopped, 1)
				go func() { got <- obey(signals, cancel) }()
				send(syscall.SIGTERM)
				synctest.Wait()
				if first := new(stopped); !errors.As(context.Cause(ctx), first) || first.signal != syscall.SIGTERM {
					t.Errorf("after the first the context has the cause %v", context.Cause(ctx))
				}
				for _, at := range test.same {
					time.Sleep(time.Until(begun.Add(at)))
					send(syscall.SIGTERM)
					synctest.Wait()
					if len(got) > 0 {
						t.Errorf("a signal %v after the first aborts", at)
					}
				}
				time.Sleep(time.Until(begun.Add(test.next)))
				send(syscall.SIGINT)
				if second := <-got; second.signal != syscall.SIGINT || time.Since(begun) != test.next {
					t.Errorf("aborted by %v after %v, want the interrupt after %v", second.signal, time.Since(begun), test.next)
				}
			})
		})
	}
}
