package sinktest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/sinktest"
	"github.com/signalbox-go/signalbox/worker"
)

func TestMain(m *testing.M) { sinktest.Main(m) }

// A memory is a system that keeps messages in memory, one after the other. It can have a bug.
type memory struct {
	pipelined bool
	bug       string

	mu       sync.Mutex
	wake     chan struct{} // closed when something changes
	received map[string][]sinktest.Received
	away     bool
	frozen   bool
	hiccups  int
}

func newMemory(pipelined bool, bug string) *memory {
	return &memory{pipelined: pipelined, bug: bug, received: map[string][]sinktest.Received{}, wake: make(chan struct{})}
}

const maxBytes = 10_000

func (s *memory) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.wake)
	s.wake = make(chan struct{})
}

// A client is a sink for a memory. What was sent is taken in order by one goroutine.
type client struct {
	*memory
	queue chan item
	ended chan struct{}
	stop  context.CancelFunc
}

type item struct {
	ctx  context.Context
	m    *relay.Message
	done func(error)
}

func (s *memory) open() *client {
	ctx, stop := context.WithCancel(context.Background())
	c := &client{memory: s, queue: make(chan item, 100), ended: make(chan struct{}), stop: stop}
	go c.run(ctx)
	return c
}

func (c *client) Send(ctx context.Context, m *relay.Message, done func(error)) {
	i := item{ctx, m, done}
	if c.bug == "acknowledges early" {
		done(nil)
		i.done = func(error) {}
	}
	select {
	case c.queue <- i:
	case <-ctx.Done():
		i.done(ctx.Err())
	}
}

func (c *client) Pipelined() bool { return c.pipelined }

func (c *client) Check(_ context.Context, destinations []string) error {
	if slices.Contains(destinations, "missing") && c.bug != "checks nothing" {
		return errors.New("missing is not there: create it")
	}
	return nil
}

func (c *client) Close() error {
	c.stop()
	<-c.ended
	return nil
}

func (c *client) run(ctx context.Context) {
	defer close(c.ended)
	failed := map[string]bool{} // keys of which one has failed: all that is in the queue behind it fails
	for n := 0; ; n++ {
		if len(c.queue) == 0 {
			clear(failed)
		}
		select {
		case <-ctx.Done():
			for len(c.queue) > 0 {
				i := <-c.queue
				i.done(ctx.Err())
			}
			return
		case i := <-c.queue:
			if c.pipelined && failed[i.m.Key] && i.m.Key != "" && c.bug != "goes on behind a failure" {
				i.done(errors.New("one before it has failed"))
				continue
			}
			err := c.take(ctx, i, n)
			failed[i.m.Key] = failed[i.m.Key] || err != nil
			if i.done(err); c.bug == "answers twice" {
				i.done(err)
			}
		}
	}
}

// take stores a message.
func (c *client) take(ctx context.Context, i item, n int) error {
	for c.mu.Lock(); c.frozen; c.mu.Lock() {
		wake := c.wake
		c.mu.Unlock()
		select {
		case <-wake:
		case <-i.ctx.Done():
			return i.ctx.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer c.mu.Unlock()
	m := i.m
	switch {
	case i.ctx.Err() != nil:
		return i.ctx.Err()
	case c.away && c.bug == "outage as failure":
		return worker.DeadLetter(errors.New("connection refused"))
	case c.away, m.Destination == "missing":
		return worker.Outage(errors.New("connection refused"))
	case c.hiccups > 0 && m.Key != "":
		c.hiccups--
		return errors.New("try again")
	case m.Destination == "refused" || len(m.Body) > maxBytes && c.bug != "takes poison for a failure":
		return worker.DeadLetter(errors.New("refused"))
	case len(m.Body) > maxBytes:
		return errors.New("too large")
	case c.bug == "drops some" && n%100 == 99:
		return nil
	case c.bug == "another id":
		m.ID += "x"
	}
	headers := maps.Clone(m.Headers)
	switch c.bug {
	case "no headers":
		headers = nil
	case "headers of the event":
		headers = m.Event.Headers
	}
	list := c.received[m.Destination]
	list = append(list, sinktest.Received{ID: m.ID, Key: m.Key, Headers: headers, Body: m.Body})
	if last := len(list) - 1; c.bug == "overtakes" && last > 20 && n%50 == 0 {
		list[last], list[last-20] = list[last-20], list[last]
	}
	c.received[m.Destination] = list
	return nil
}

func (s *memory) target() sinktest.Target {
	destinations := 0
	return sinktest.Target{
		New:         func(*testing.T) relay.Sink { return s.open() },
		Destination: func(*testing.T) string { destinations++; return fmt.Sprint("destination-", destinations) },
		Received: func(_ *testing.T, destination string) []sinktest.Received {
			s.mu.Lock()
			defer s.mu.Unlock()
			return slices.Clone(s.received[destination])
		},
		Stop:     func(*testing.T) { s.set(func() { s.away = true }) },
		Start:    func(*testing.T) { s.set(func() { s.away = false }) },
		Freeze:   func(*testing.T) { s.set(func() { s.frozen = true }) },
		Thaw:     func(*testing.T) { s.set(func() { s.frozen = false }) },
		Hiccup:   func(*testing.T) { s.set(func() { s.hiccups++ }) },
		TooLarge: maxBytes, Missing: "missing", Refused: "refused",
	}
}

func TestMemory(t *testing.T) { //nolint:paralleltest // see Run
	for name, pipelined := range map[string]bool{"strict": false, "pipelined": true} {
		t.Run(name, func(t *testing.T) { sinktest.Run(t, newMemory(pipelined, "").target()) })
	}
}

// TestBugs has sinks with a bug fail.
func TestBugs(t *testing.T) {
	t.Parallel()
	for bug, test := range map[string]string{
		"acknowledges early":         "shutdown while frozen",
		"answers twice":              "answers once",
		"another id":                 "delivers in order",
		"checks nothing":             "checks destinations",
		"drops some":                 "delivers in order",
		"goes on behind a failure":   "hiccups",
		"headers of the event":       "carries the trace",
		"no headers":                 "delivers in order",
		"outage as failure":          "outage",
		"overtakes":                  "delivers in order",
		"takes poison for a failure": "poison is a dead letter",
	} {
		t.Run(bug, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestBroken$/^"+strings.ReplaceAll(test, " ", "_")+"$") //nolint:gosec // ourselves
			cmd.Env = append(os.Environ(), "SINKTEST_BUG="+bug)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestBroken/") {
				t.Errorf("a sink that %s passes: %v\n%s", bug, err, out)
			}
		})
	}
}

// TestBroken is run by TestBugs.
func TestBroken(t *testing.T) { //nolint:paralleltest // see Run
	bug := os.Getenv("SINKTEST_BUG")
	if bug == "" {
		t.Skip("TestBugs runs it")
	}
	sinktest.Run(t, newMemory(true, bug).target())
}
