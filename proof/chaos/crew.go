package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/signalbox-go/signalbox/internal/proc"
	"github.com/signalbox-go/signalbox/internal/proxy"
)

// A post is what one worker process does at a time. When it dies, the next one takes its place. Safe for concurrent use.
type post struct {
	name          string
	subscriptions []int
	program       string
	proxy         *proxy.Proxy
	crew          *crew

	mu      sync.Mutex
	process *proc.Process // nil while nobody is there
	since   time.Time
	leaving bool          // process was asked to end
	killed  bool          // process was sent a signal that ends it
	held    int           // nobody comes while it is not 0
	resume  chan struct{} // has a token when held was changed
}

// A crew is all worker processes.
type crew struct {
	url     func(address string) string // of the database through a proxy
	folder  string
	lease   time.Duration
	posts   []*post
	running sync.WaitGroup
	stop    context.CancelFunc
	skewed  string // program whose clock is wrong; empty for none

	mu        sync.Mutex
	processes int32
	faults    []string // processes that ended as none should
}

// Who serves what. The killing handlers have processes of their own, so that they do not keep the others from their work.
var posts = [][]int{most(), most(), most(), {flaky}, {flaky}}

// most are all subscriptions but flaky.
func most() (list []int) {
	for s := range subscriptions {
		if s != flaky {
			list = append(list, s)
		}
	}
	return list
}

func (c *crew) start(target string) error {
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	for i, subs := range posts {
		p := &post{name: fmt.Sprintf("worker %d", i+1), subscriptions: subs, program: self, crew: c, resume: make(chan struct{}, 1)}
		if c.skewed != "" && i%2 == 1 {
			p.program = c.skewed
		}
		if p.proxy, err = proxy.New(p.name, target); err != nil {
			return err
		}
		c.posts = append(c.posts, p)
	}
	for _, p := range c.posts {
		c.running.Go(func() { p.man(ctx) })
	}
	return nil
}

// man keeps somebody at the post until ctx ends.
func (p *post) man(ctx context.Context) {
	for ctx.Err() == nil {
		p.mu.Lock()
		held := p.held > 0
		p.mu.Unlock()
		if held {
			select {
			case <-p.resume:
			case <-ctx.Done():
			}
			continue
		}
		if err := p.run(ctx); err != nil {
			p.crew.fault("%s: %v", p.name, err)
			return
		}
		select {
		case <-time.After(300 * time.Millisecond): // without a database, it ends at once
		case <-ctx.Done():
		}
	}
}

// run is one process, from its start to its end. None is started once ctx has ended.
func (p *post) run(ctx context.Context) error {
	c := p.crew
	c.mu.Lock()
	c.processes++
	number := c.processes
	c.mu.Unlock()
	env, err := workerRole.Env(workerConfig{
		URL: c.url(p.proxy.Address()), Process: number, Reports: reportsFile(c.folder), Signs: c.folder, Lease: c.lease, Subscriptions: p.subscriptions,
	})
	if err != nil {
		return err
	}
	log, err := os.Create(c.logFile(number))
	if err != nil {
		return err
	}
	defer log.Close()
	p.mu.Lock()
	if ctx.Err() != nil { // what ends it has been here before
		p.mu.Unlock()
		return nil
	}
	// ctx only keeps new ones from starting: those that run end as dismiss tells them.
	process, err := proc.Start(context.WithoutCancel(ctx), proc.Config{Program: p.program, Env: []string{env}, Stdout: log, Stderr: log})
	if err != nil {
		p.mu.Unlock()
		return err
	}
	p.process, p.leaving, p.killed, p.since = process, false, false, time.Now()
	p.mu.Unlock()
	state := process.State()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.judge(number, state)
	p.process = nil
	return nil
}

// judge notes an end that nobody has asked for, and one that was asked for and did not go well. A worker that cannot start, because
// the server is away, ends with 1, maybe at the moment when it is told to stop: whoever runs it starts it again. The killing handlers kill
// with SIGKILL.
func (p *post) judge(number int32, state *os.ProcessState) {
	status, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case p.killed || ok && status.Signaled() && status.Signal() == syscall.SIGKILL && p.subscriptions[0] == flaky:
	case state.ExitCode() == 1 && !served(p.crew.logFile(number)):
	case p.leaving && !state.Success():
		p.crew.fault("worker process %d was told to stop, and ended with %v", number, state)
	case !p.leaving:
		p.crew.fault("worker process %d ended by itself with %v", number, state)
	}
}

func (c *crew) logFile(number int32) string {
	return filepath.Join(c.folder, fmt.Sprintf("worker-%d.log", number))
}

// served reports whether a worker whose log this is has begun to serve. One whose log cannot be read has.
func served(path string) bool {
	text, err := os.ReadFile(path)
	return err != nil || bytes.Contains(text, []byte("msg=serving "))
}

func (c *crew) fault(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// signal sends one to whoever is at the post, and returns what is closed when they have ended.
func (p *post) signal(s syscall.Signal) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	switch s {
	case syscall.SIGKILL:
		p.killed = true
	case syscall.SIGTERM:
		if time.Since(p.since) < time.Second { // it may not listen for signals yet
			p.killed = true
		}
		p.leaving = true
	}
	p.process.Signal(s)
	return p.process.Ended()
}

// hold keeps the post empty, once whoever is there has ended, until it is called with false.
func (p *post) hold(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on {
		p.held++
	} else {
		p.held--
	}
	select {
	case p.resume <- struct{}{}:
	default:
	}
}

// dismiss ends all processes, well, and the proxies. What does not end in time is killed.
func (c *crew) dismiss() {
	c.stop()
	for _, p := range c.posts {
		p.signal(syscall.SIGCONT)
		p.signal(syscall.SIGTERM)
	}
	for _, p := range c.posts {
		select {
		case <-p.signal(0):
		case <-time.After(45 * time.Second):
			c.fault("%s did not end within 45s", p.name)
			p.signal(syscall.SIGKILL)
		}
	}
	c.running.Wait()
	for _, p := range c.posts {
		p.proxy.Close()
	}
}

func reportsFile(folder string) string { return filepath.Join(folder, "reports") }

// lastWords copies the end of a log, for people.
func lastWords(path string, out io.Writer) {
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	const most = 4 << 10
	if len(text) > most {
		text = text[len(text)-most:]
	}
	fmt.Fprintf(out, "%s ends:\n%s\n", path, text)
}

// containsPanic reports whether a log has the end of a Go program that crashed.
func containsPanic(log []byte) bool { return bytes.Contains(log, []byte("goroutine ")) }
