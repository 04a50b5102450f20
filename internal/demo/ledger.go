package demo

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/producer"
)

// A ledger keeps what was promised and what came of it: an event is promised once a client was told that it is stored,
// and has arrived when a handler of every subscription was called for it. Safe for concurrent use.
type ledger struct {
	labels []string // of the subscriptions

	mu       sync.Mutex
	requests map[mark]*request // the demo's own that are not closed yet
	events   map[int64]*event
	owing    int           // promised events that have yet to reach some subscription
	paid     chan struct{} // has a token when owing fell

	answered int   // own requests of which it is known that they are stored
	failed   int   // those that were not told so …
	rescued  int   // … and were found in the log
	fault    error // what the last of them was told instead
}

// A mark recognises the signal of one of the demo's own requests, even if it never got an answer: no other has this name
// and value at this microsecond.
type mark struct {
	name  string
	value float64
	at    int64 // microseconds since 1970
}

func markOf(s producer.Signal) mark { return mark{s.Name, s.Value, s.Timestamp.UnixMicro()} }

// A request is one of the demo's own.
type request struct {
	signal producer.Signal
	sent   time.Time
	failed bool // whether it was stored is not known
	owed   int  // its answer and its arrival at each subscription, which are still to come
}

// An event is what is known of one in the log. It may arrive before its client has the answer.
type event struct {
	promised bool
	own      bool
	arrivals []arrival // by subscription
}

// An arrival is the first time that a subscription's handler was called for an event.
type arrival struct {
	times   int // that it was called: 0 until it arrives
	worker  string
	latency time.Duration // since the request was sent, for own ones
}

// everywhere reports whether each subscription has the event.
func (e *event) everywhere() bool {
	for _, a := range e.arrivals {
		if a.times == 0 {
			return false
		}
	}
	return true
}

func newLedger(labels []string) *ledger {
	return &ledger{
		labels: labels, requests: map[mark]*request{}, events: map[int64]*event{}, paid: make(chan struct{}, 1),
	}
}

// sending notes a request just before it is sent: its event may arrive before anything else happens here.
func (l *ledger) sending(s producer.Signal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests[markOf(s)] = &request{signal: s, sent: time.Now(), owed: 1 + len(l.labels)}
}

// sent notes what a request was answered: nil if its signal is stored.
func (l *ledger) sent(s producer.Signal, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.requests[markOf(s)].failed = true
		l.failed++
		l.fault = err
		return
	}
	l.answered++
	l.pay(markOf(s))
}

// pay notes that something that was owed to a request has come, and forgets the request after the last.
func (l *ledger) pay(m mark) {
	r := l.requests[m]
	if r.owed--; r.owed == 0 {
		delete(l.requests, m)
	}
}

// stored notes events of which a client, whoever it is, was told that they are stored.
func (l *ledger) stored(ids ...int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.promise(l.event(id))
	}
}

func (l *ledger) event(id int64) *event {
	e := l.events[id]
	if e == nil {
		e = &event{arrivals: make([]arrival, len(l.labels))}
		l.events[id] = e
	}
	return e
}

// promise notes that an event is committed: from now on it has to arrive.
func (l *ledger) promise(e *event) {
	if !e.promised {
		if e.promised = true; !e.everywhere() {
			l.owing++
		}
	}
}

// A passage is an event that has just reached the last of its subscriptions.
type passage struct {
	event    outbox.Event
	signal   *producer.Signal // nil if the event is about something else
	own      bool
	arrivals []arrival
}

// handled notes that a handler was called. It returns a passage if the event has now, and not before, reached every
// subscription.
func (l *ledger) handled(subscription int, worker string, raw outbox.Event) *passage {
	now := time.Now() // before the lock, for which others may queue
	var signal *producer.Signal
	if raw.Topic == producer.TopicCreated && json.Unmarshal(raw.Payload, &signal) != nil {
		signal = nil
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.event(raw.ID)
	a := &e.arrivals[subscription]
	if a.times++; a.times > 1 {
		return nil // again: that it came is known
	}
	a.worker = worker
	if signal != nil {
		if r := l.requests[markOf(*signal)]; r != nil {
			e.own = true
			a.latency = now.Sub(r.sent)
			l.promise(e) // it is committed, whatever its client will be told
			l.pay(markOf(*signal))
		}
	}
	if !e.everywhere() {
		return nil
	}
	if e.promised {
		l.owing--
		select {
		case l.paid <- struct{}{}:
		default:
		}
	}
	return &passage{event: raw, signal: signal, own: e.own, arrivals: slices.Clone(e.arrivals)}
}

// missing returns how many promised events have yet to reach some subscription.
func (l *ledger) missing() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owing
}

// awaitArrival returns when nothing is missing, or when ctx ends.
func (l *ledger) awaitArrival(ctx context.Context) {
	for l.missing() > 0 {
		select {
		case <-l.paid:
		case <-ctx.Done():
			return
		}
	}
}
