package webhook

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/worker"
)

const (
	defaultRequests = 256
	// How many messages may wait in the sink for an endpoint, for all of them, and for how long where others must not wait for it.
	waitingOfOne, waitingOfAll = 32, 512
	patience                   = time.Second
)

// A Config says where messages go, and what they may reach. One of Endpoint, File and Endpoints must be set.
type Config struct {
	// Endpoint is the only one: all messages go there, whatever their destination. While it takes no message, Send blocks, and the
	// subscription's breaker is the endpoint's.
	Endpoint *Endpoint

	// File has the endpoints, by the names that messages have as destination, in YAML or JSON. It is read again when it changes.
	File string

	// Endpoints returns the endpoint of a name, which is the destination of a message. It is called for each message, maybe at the same
	// time, and should be fast. For a name that it does not know, it returns ErrUnknownEndpoint.
	Endpoints func(ctx context.Context, name string) (Endpoint, error)

	// Allow lists networks that may be reached although they are private, local or reserved, such as 10.0.0.0/8. Defaults to none.
	Allow []netip.Prefix

	// Proxy takes all requests. It connects to endpoints, so it has to refuse addresses: Allow means nothing. Defaults to none, whatever
	// the environment says.
	Proxy *url.URL

	// TLS is the configuration of all connections. Defaults to the system's certificates, and TLS 1.2 or newer.
	TLS *tls.Config

	// Concurrency is how many requests may run at the same time. Defaults to 256.
	Concurrency int

	// Logger is told of endpoints that go down or come back. Defaults to slog.Default().
	Logger *slog.Logger
}

// A Sink sends messages to webhook endpoints. It is safe for concurrent use.
type Sink struct {
	log        *slog.Logger
	place      string
	most       int  // requests at the same time
	single     bool // there is one endpoint: nothing is spared by putting its messages off
	lookup     func(ctx context.Context, name string) (Endpoint, error)
	file       *file
	transports *transports

	mu      sync.Mutex
	queues  map[string]*queue
	ready   []*queue // in which something may be able to begin, in turns
	running int
	waiting int
	room    chan struct{} // closed when something has ended, if a Send waits for that
	closed  bool
	calls   sync.WaitGroup
}

var _ relay.Sink = (*Sink)(nil)

var errClosed = errors.New("the sink is closed")

// New returns a sink. It reads the file, and checks what can be checked without a connection. The caller closes the sink.
func New(cfg Config) (*Sink, error) {
	s := &Sink{
		log: cfg.Logger, most: cmp.Or(cfg.Concurrency, defaultRequests), single: cfg.Endpoint != nil,
		place: "webhooks", lookup: cfg.Endpoints, transports: newTransports(cfg), queues: map[string]*queue{},
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	set := 0
	for _, is := range []bool{cfg.Endpoint != nil, cfg.File != "", cfg.Endpoints != nil} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		return nil, errors.New("webhook: set one of Endpoint, File and Endpoints")
	case cfg.Concurrency < 0:
		return nil, fmt.Errorf("webhook: Concurrency is %d, must not be negative", cfg.Concurrency)
	case cfg.Endpoint != nil:
		e := *cfg.Endpoint
		if _, err := s.compile(e.URL, e); err != nil {
			return nil, fmt.Errorf("webhook: %w", err)
		}
		s.lookup = func(context.Context, string) (Endpoint, error) { return e, nil }
		s.place = placeOf(e.URL)
	case cfg.File != "":
		f, err := s.open(cfg.File)
		if err != nil {
			return nil, fmt.Errorf("webhook: %w", err)
		}
		s.file, s.lookup, s.place = f, f.endpoint, "webhook:"+cfg.File
	}
	return s, nil
}

// String says where the sink sends to. What is behind the host of a URL may be a secret.
func (s *Sink) String() string { return s.place }

// Pipelined is false: endpoints get the messages of a key one after the other.
func (s *Sink) Pipelined() bool { return false }

// Send sends a message to its endpoint. See [relay.Sink].
func (s *Sink) Send(ctx context.Context, m *relay.Message, done func(error)) {
	t, err := s.target(ctx, m.Destination)
	if err != nil {
		done(err)
		return
	}
	c := &call{id: m.ID, key: m.Key, target: t, answer: done}
	c.begin = func() {
		defer s.calls.Done()
		began := time.Now()
		r := c.target.post(ctx, m)
		s.finish(c, r, time.Since(began))
	}
	if err := s.admit(ctx, c); err != nil {
		done(err)
	}
}

// target returns the endpoint of a destination. The error is an answer.
func (s *Sink) target(ctx context.Context, name string) (*target, error) {
	e, err := s.lookup(ctx, name)
	switch {
	case errors.Is(err, ErrUnknownEndpoint):
		return nil, worker.DeadLetter(fmt.Errorf("endpoint %s: %w: add it, then retry the dead letter", shown(name), err))
	case err != nil:
		return nil, fmt.Errorf("look up endpoint %s: %w", shown(name), err)
	}
	if s.single {
		name = e.URL
	}
	if t := s.known(name, e); t != nil {
		return t, nil
	}
	t, err := s.compile(name, e)
	switch {
	case errors.Is(err, errFiles):
		return nil, err // they may be on their way
	case err != nil:
		return nil, worker.DeadLetter(err)
	}
	return t, nil
}

// known returns the target of an endpoint that there is a queue for, if its definition is the same.
func (s *Sink) known(name string, e Endpoint) *target {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[name]; q != nil && !q.stale && reflect.DeepEqual(q.target.definition, e) {
		return q.target
	}
	return nil
}

// admit begins a call, or has it wait. It blocks while there is room for neither. It returns an answer if the call is to come back later.
func (s *Sink) admit(ctx context.Context, c *call) error {
	for {
		room, err := s.offer(ctx, c)
		if room == nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// offer is admit without blocking: it returns a channel that is closed when there may be room.
func (s *Sink) offer(ctx context.Context, c *call) (room <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	q := s.queue(c.target)
	defer s.forget(q)
	c.target = q.target
	now := time.Now()
	if q.refuses(now) {
		return nil, q.refusal(now)
	}
	q.waiting = append(q.waiting, c)
	s.waiting++
	s.pump(q)
	switch {
	case !slices.Contains(q.waiting, c):
		return nil, nil
	case s.waiting > waitingOfAll && q.listed, s.single && len(q.waiting) > waitingOfOne:
		s.remove(q, c)
		if s.room == nil {
			s.room = make(chan struct{})
		}
		return s.room, nil
	case s.waiting > waitingOfAll, !s.single && len(q.waiting) > q.waits(now): // Send does not block: what comes behind it may be for another
		s.remove(q, c)
		return nil, q.full(now)
	}
	s.watch(ctx, q, c)
	return nil, nil
}

// queue returns the queue of an endpoint. One whose definition has changed begins anew.
func (s *Sink) queue(t *target) *queue {
	q := s.queues[t.name]
	if q == nil {
		q = &queue{target: t, busy: map[string]bool{}}
		s.queues[t.name] = q
	}
	// A target that was looked up before the queue became stale does not renew it.
	if t != q.target && (q.stale || !reflect.DeepEqual(q.target.definition, t.definition)) {
		q.renew(t)
	}
	return q
}

// forget drops a queue of which nothing is to be remembered.
func (s *Sink) forget(q *queue) {
	if q.idle(time.Now()) && s.queues[q.target.name] == q {
		delete(s.queues, q.target.name)
	}
}

// watch ends the waiting of a call: with its context, or because others should have its place.
func (s *Sink) watch(ctx context.Context, q *queue, c *call) {
	waits, cancel := ctx, func() {}
	if !s.single {
		waits, cancel = context.WithTimeout(ctx, patience)
	}
	stop := context.AfterFunc(waits, func() {
		if answer := s.giveUp(ctx, q, c); answer != nil {
			c.answer(answer)
		}
	})
	c.leave = func() { stop(); cancel() }
}

// giveUp ends the waiting of a call, and returns its answer, or nil if it waits no more, or goes on waiting.
func (s *Sink) giveUp(ctx context.Context, q *queue, c *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.listed && ctx.Err() == nil && slices.Contains(q.waiting, c) {
		s.watch(ctx, q, c) // it is not its endpoint that it waits for, but all of them
		return nil
	}
	defer s.forget(q)
	switch {
	case !s.remove(q, c):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return q.full(time.Now())
}

// pump begins what can begin, in q and wherever else something waits for room, in turns.
func (s *Sink) pump(q *queue) {
	s.list(q)
	for s.running < s.most && len(s.ready) > 0 {
		q, s.ready = s.ready[0], s.ready[1:]
		q.listed = false
		c := q.take(s.share())
		if c == nil {
			continue // something of it runs, which will list it again
		}
		s.left(c)
		q.begin(c, time.Now())
		s.running++
		s.calls.Add(1)
		go c.begin()
		s.list(q)
	}
}

// share is how many requests an endpoint may run: the fewer, the more run already, so that many slow ones leave some to the others.
func (s *Sink) share() int {
	if s.single {
		return s.most
	}
	return max(1, (s.most-s.running)/8)
}

func (s *Sink) list(q *queue) {
	if !q.listed && len(q.waiting) > 0 {
		q.listed = true
		s.ready = append(s.ready, q)
	}
}

// finish takes what became of a call, answers it, and begins what waited for it.
func (s *Sink) finish(c *call, r result, took time.Duration) {
	s.mu.Lock()
	q := s.queues[c.target.name]
	if r.kind == interrupted {
		took = 0
	}
	q.end(c, took, time.Now())
	s.running--
	log, answer := s.judge(q, c, r)
	flush := s.flush(q)
	s.pump(q)
	s.forget(q)
	if s.room != nil { // each Send that is blocked looks again
		close(s.room)
		s.room = nil
	}
	s.mu.Unlock()
	log()
	c.answer(answer)
	for _, answer := range flush {
		answer()
	}
}

// flush ends the waiting for an endpoint that takes nothing any more, and returns what answers the calls.
func (s *Sink) flush(q *queue) (answers []func()) {
	now := time.Now()
	if !q.refuses(now) {
		return nil
	}
	for _, c := range q.waiting {
		s.left(c)
		refusal := q.refusal(now) // for each its own: they come back one after the other
		answers = append(answers, func() { c.answer(refusal) })
	}
	q.waiting = nil
	return answers
}

// remove takes a call out of those that wait, and reports whether it was among them.
func (s *Sink) remove(q *queue, c *call) bool {
	i := slices.Index(q.waiting, c)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	s.left(c)
	return true
}

// left notes that a call waits no more.
func (s *Sink) left(c *call) {
	s.waiting--
	if c.leave != nil {
		c.leave()
	}
}

// Enable begins anew with an endpoint: one that said 410, wants to be left alone, or is down gets messages at once. So does a change of
// its definition, or of the file.
func (s *Sink) Enable(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[name]; q != nil {
		q.stale = true
	}
}

// enableAll is Enable for all endpoints.
func (s *Sink) enableAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		q.stale = true
	}
}

// Close waits for requests that run, and closes connections.
func (s *Sink) Close() error {
	s.mu.Lock()
	s.closed = true
	var waiting []*call
	for _, q := range s.queues {
		for _, c := range q.waiting {
			s.left(c)
			waiting = append(waiting, c)
		}
		q.waiting = nil
	}
	s.mu.Unlock()
	for _, c := range waiting {
		c.answer(errClosed)
	}
	s.calls.Wait()
	if s.file != nil {
		s.file.close()
	}
	return s.transports.renew(func() error { return nil })
}
