package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/signalbox-go/signalbox/internal/proc"
)

// relays is how many relay processes there are at a time.
const relays = 2

// A post is one of them. When it dies, the next one takes its place. Safe for concurrent use.
type post struct {
	w      *world
	name   string
	resume chan struct{} // has a token when held was changed

	mu      sync.Mutex
	process *proc.Process // nil while nobody is there
	number  int           // of the process
	since   time.Time
	leaving bool // process was asked to end
	killed  bool // process was sent a signal that ends it
	held    int  // nobody comes while it is not 0
}

// A hit is a signal that may have kept a process from recording what it had been told. One that is asked to end records everything.
type hit struct {
	process int
	at      int64 // in ns
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
			p.w.fail("%s: %v", p.name, err)
			return
		}
		pause(ctx, 300*time.Millisecond)
	}
}

// run is one process, from its start to its end.
func (p *post) run(ctx context.Context) error {
	w := p.w
	number := w.nextProcess()
	env, err := relayRole.Env(relayConfig{
		Database: w.server.URL("postgres"), Place: w.place.name, URL: w.broker.url, Destination: w.broker.destination, Process: number,
		Reports: w.reportsFile(), Lease: lease,
	})
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(w.folder, fmt.Sprintf("relay-%d.log", number)))
	if err != nil {
		return err
	}
	defer log.Close()
	p.mu.Lock()
	if ctx.Err() != nil { // what ends it has been here before
		p.mu.Unlock()
		return nil
	}
	process, err := proc.Start(context.WithoutCancel(ctx), proc.Config{Env: append(w.relayEnv, env), Stdout: log, Stderr: log, Group: true})
	if err != nil {
		p.mu.Unlock()
		return err
	}
	p.process, p.number, p.leaving, p.killed, p.since = process, number, false, false, time.Now()
	p.mu.Unlock()
	state := process.State()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.process = nil
	switch {
	case p.killed:
	case p.leaving && !state.Success():
		w.fail("relay process %d was told to stop, and ended with %v", number, state)
	case !p.leaving:
		w.fail("relay process %d ended by itself with %v", number, state)
	}
	return nil
}

// signal sends one to who is at the post, and returns what is closed when they have ended.
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
	if s == syscall.SIGSTOP || s == syscall.SIGCONT || p.killed {
		p.w.hit(hit{process: p.number, at: time.Now().UnixNano()})
	}
	p.process.Signal(s)
	return p.process.Ended()
}

// hold keeps the post empty, once who is there has ended, until it is called with false.
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

// dismiss ends all relays, well. What does not end in time is killed.
func (w *world) dismiss() {
	w.stopPosts()
	for _, p := range w.posts {
		p.signal(syscall.SIGCONT)
		p.signal(syscall.SIGTERM)
	}
	for _, p := range w.posts {
		select {
		case <-p.signal(0):
		case <-time.After(30 * time.Second):
			w.fail("%s did not end within 30s", p.name)
			p.signal(syscall.SIGKILL)
		}
	}
	w.manned.Wait()
}
