// Package outside lets programs use what is made for tests: the servers of this module, where something is measured or proved for longer
// than a test may take.
//
//	host := outside.New(ctx)
//	defer host.Close()
//	err := host.Do(func(t testing.TB) { server = nats.StartProcess(t, "") })
package outside

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// ErrLacks matches the error of what this machine lacks something for: a test would be skipped.
var ErrLacks = errors.New("this machine lacks something")

// A Host stands for the test that things belong to: they end with it. It is safe for concurrent use.
type Host struct {
	ctx context.Context

	mu       sync.Mutex
	cleanups []func()
}

// New returns a host. ctx is that of what it does.
func New(ctx context.Context) *Host { return &Host{ctx: ctx} }

// Do calls do with what stands for a test, and returns why that failed, if it did. What it began stays until Close.
func (h *Host) Do(do func(t testing.TB)) error {
	c := &call{host: h}
	done := make(chan struct{})
	go func() {
		defer close(done)
		do(c)
	}()
	<-done
	return c.err
}

// Close ends what was begun, the last thing first.
func (h *Host) Close() error {
	return h.Do(func(testing.TB) {
		h.mu.Lock()
		cleanups := h.cleanups
		h.cleanups = nil
		h.mu.Unlock()
		for _, cleanup := range slices.Backward(cleanups) {
			cleanup()
		}
	})
}

// A call is the testing.TB of one call of Do. What servers do not need is missing, and would panic.
type call struct {
	testing.TB
	host *Host
	err  error
}

func (c *call) Helper()                  {}
func (c *call) Name() string             { return "outside of a test" }
func (c *call) Context() context.Context { return c.host.ctx }

func (c *call) Cleanup(f func()) {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	c.host.cleanups = append(c.host.cleanups, f)
}

func (c *call) TempDir() string {
	dir, err := os.MkdirTemp("", "signalbox-")
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (c *call) Error(args ...any)                 { c.fail(errors.New(fmt.Sprint(args...))) }
func (c *call) Errorf(format string, args ...any) { c.fail(fmt.Errorf(format, args...)) }

func (c *call) Fatal(args ...any) {
	c.Error(args...)
	runtime.Goexit()
}

func (c *call) Fatalf(format string, args ...any) {
	c.Errorf(format, args...)
	runtime.Goexit()
}

func (c *call) Skip(args ...any) {
	c.fail(fmt.Errorf("%w: %s", ErrLacks, fmt.Sprint(args...)))
	runtime.Goexit()
}

func (c *call) fail(err error) { c.err = errors.Join(c.err, err) }
