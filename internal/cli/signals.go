package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// oneRequest is how long signals count as the first one. GNU timeout, npm and others signal their child, and then its process
// group, so that one request to stop arrives twice.
const oneRequest = 500 * time.Millisecond

// stopped is why a command's context ended.
type stopped struct{ signal syscall.Signal }

func (s stopped) Error() string { return "stopped by " + s.signal.String() }
func (s stopped) code() int     { return 128 + int(s.signal) }

// Context returns a context that the first SIGINT or SIGTERM ends, for the rest of the process. Half a second later, another one
// exits at once, for whoever has no patience with the first. name is the program's.
func Context(name string) context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		second := obey(signals, cancel)
		fmt.Fprintf(os.Stderr, "%s: aborted by a second signal\n", name)
		os.Exit(second.code())
	}()
	return ctx
}

// obey cancels when the first signal comes, and returns the second.
func obey(signals <-chan os.Signal, cancel context.CancelCauseFunc) (second stopped) {
	cancel(stopped{(<-signals).(syscall.Signal)})
	// What came by the end of that time is dropped then, not as it comes: a process that was given no processor meanwhile
	// might find it late.
	time.Sleep(oneRequest)
	for len(signals) > 0 {
		<-signals
	}
	return stopped{(<-signals).(syscall.Signal)}
}
