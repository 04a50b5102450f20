// Package inflight keeps the promises of a sink about each message in flight: its done is called exactly once, soon after its context
// ends, and within a timeout; and there are no more than so many of them. It starts no goroutine while messages wait.
package inflight

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A Set bounds what is in flight. Its methods are safe for concurrent use.
type Set struct {
	slots   chan struct{}
	timeout time.Duration
}

// New returns a set of at most limit flights, each of which ends within the timeout.
func New(limit int, timeout time.Duration) *Set {
	return &Set{slots: make(chan struct{}, limit), timeout: timeout}
}

// Len returns how many messages are in flight.
func (s *Set) Len() int { return len(s.slots) }

// Begin waits until there is room, and returns the flight of a message. If ctx ends before that, it calls done and returns nil.
func (s *Set) Begin(ctx context.Context, done func(error)) *Flight {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		done(fmt.Errorf("not sent: %w", context.Cause(ctx)))
		return nil
	}
	f := &Flight{set: s, done: done}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.timer = time.AfterFunc(s.timeout, func() {
		f.Answer(fmt.Errorf("no answer within %v, so it is not known whether the message has arrived", s.timeout))
	})
	f.stop = context.AfterFunc(ctx, func() {
		f.Answer(fmt.Errorf("given up before the answer, so it is not known whether the message has arrived: %w", context.Cause(ctx)))
	})
	return f
}

// A Flight is a message that waits for its answer.
type Flight struct {
	set  *Set
	done func(error)

	mu       sync.Mutex
	answered bool
	timer    *time.Timer
	stop     func() bool
}

// Answer ends the flight, and calls done. Of several answers, the first counts, and the others do nothing.
func (f *Flight) Answer(err error) {
	f.mu.Lock()
	first := !f.answered
	f.answered = true
	f.mu.Unlock()
	if !first {
		return
	}
	f.timer.Stop()
	f.stop()
	<-f.set.slots // before done, which may want to send the next message
	f.done(err)
}
