// Package proxy is the network between a client and a server, for what proves that the product stands its faults.
package proxy

import (
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// A Proxy is the network between one client host and the server. It passes bytes on, until it is told to cut, to delay, or to
// swallow. Safe for concurrent use.
type Proxy struct {
	name     string
	listener net.Listener
	target   string

	mu      sync.Mutex
	changed *sync.Cond
	links   map[*link]bool
	delay   time.Duration
	blocks  int // by how many faults nothing gets through, in neither direction, and nobody is told
	refuses int // … connections are cut as they come
	deafens int // … what the server says is lost
	serial  int
	closed  bool
	running sync.WaitGroup
}

// A link is a client's connection with the one to the server.
type link struct {
	client, server net.Conn
	serial         int  // in the order in which they came
	silent         bool // it alone passes nothing
	deaf           bool // the client has missed something that the server said
}

// New returns a proxy for a server, which is at host:port.
func New(name, target string) (*Proxy, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{name: name, listener: listener, target: target, links: map[*link]bool{}}
	p.changed = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	return p, nil
}

// Name is whose network it is.
func (p *Proxy) Name() string { return p.name }

// Address is where clients find it, as host:port.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	l := &link{client: client}
	p.mu.Lock()
	p.serial++
	l.serial = p.serial
	p.links[l] = true
	p.mu.Unlock()
	defer p.drop(l)
	if !p.pass(l) { // a blocked network does not let the first packet through either
		return
	}
	server, err := net.DialTimeout("tcp4", p.target, 5*time.Second)
	if err != nil {
		return
	}
	p.mu.Lock()
	cut := !p.links[l]
	l.server = server
	p.mu.Unlock()
	if cut {
		_ = server.Close()
		return
	}
	both := make(chan struct{}, 2)
	go func() { p.copy(l, server, client, func() bool { return false }); both <- struct{}{} }()
	go func() { p.copy(l, client, server, func() bool { return p.swallows(l) }); both <- struct{}{} }()
	<-both
	p.drop(l)
	<-both
}

// copy passes bytes on. The end of the stream has to wait for a blocked network, too: so the other side believes in a connection
// that is gone. What is swallowed is not passed on.
func (p *Proxy) copy(l *link, to io.Writer, from io.Reader, swallows func() bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if !p.pass(l) {
			return
		}
		if n > 0 && !swallows() {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits as long as the network makes it, and reports false when it is cut.
func (p *Proxy) pass(l *link) bool {
	p.mu.Lock()
	delay := p.delay
	p.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for (p.blocks > 0 || l.silent) && !p.closed {
		p.changed.Wait()
	}
	return !p.closed && p.refuses == 0
}

// swallows reports whether what the server has just said over a link is lost.
func (p *Proxy) swallows(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.deaf = l.deaf || p.deafens > 0
	return l.deaf
}

// drop ends a link at both sides.
func (p *Proxy) drop(l *link) {
	p.mu.Lock()
	delete(p.links, l)
	server := l.server
	p.mu.Unlock()
	_ = l.client.Close()
	if server != nil {
		_ = server.Close()
	}
}

// Cut ends all connections: both sides are told at once.
func (p *Proxy) Cut() { p.cut(func(*link) bool { return true }) }

func (p *Proxy) cut(chosen func(*link) bool) {
	p.mu.Lock()
	var links []*link
	for l := range p.links {
		if chosen(l) {
			links = append(links, l)
		}
	}
	p.mu.Unlock()
	for _, l := range links {
		p.drop(l)
	}
}

// Faults may overlap, so each adds its part, and takes it away when it is over.

// Block lets nothing through; afterwards everything that was held up arrives.
func (p *Proxy) Block(n int) { p.change(func() { p.blocks += n }) }

// Silence lets nothing through of one connection, and tells nobody: the nth of those that there are. It returns what lets through what
// was held up, or nil where there is no connection.
func (p *Proxy) Silence(n int) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := slices.SortedFunc(maps.Keys(p.links), func(a, b *link) int { return a.serial - b.serial })
	if len(links) == 0 {
		return nil
	}
	l := links[n%len(links)]
	l.silent = true
	return func() { p.change(func() { l.silent = false }) }
}

// Refuse has connections cut as they come.
func (p *Proxy) Refuse(n int) { p.change(func() { p.refuses += n }) }

// Deafen has what the server says get lost, such as acknowledgements, while it hears what clients say. When it is over, it cuts the
// connections over which something was lost: what comes later would make no sense.
func (p *Proxy) Deafen(n int) {
	over := false
	p.change(func() { p.deafens += n; over = p.deafens == 0 })
	if over {
		p.cut(func(l *link) bool { return l.deaf })
	}
}

// Slow has each packet take that much longer.
func (p *Proxy) Slow(delay time.Duration) { p.change(func() { p.delay += delay }) }

func (p *Proxy) change(set func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	set()
	p.changed.Broadcast()
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.change(func() { p.closed = true })
	p.Cut()
	p.running.Wait()
}
