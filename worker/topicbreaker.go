package worker

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
)

const (
	// topicsKnown is how many topics of a subscription are watched at most, and topicsOpen for how many of them the breaker may be open.
	topicsKnown, topicsOpen = 1000, 100
	// topicWorks is for how long a topic is taken to work after an attempt that has succeeded.
	topicWorks = time.Minute
)

// A topicBreaker is the breaker of one topic: what handlers call for its events may be away while they go on with others. While it is open,
// the worker reads on. Events of the topic become deliveries that are not tried, and what is behind one in its key waits as ever, whatever
// topic that has. Only probes are tried: new events as they are read, and those that wait.
//
// Where no other topic works, what is away is not a topic's, and the subscription's breaker opens: that reads little, and makes no rows.
type topicBreaker struct {
	breaker
	name  string
	fails int // how many attempts have failed since it last worked
	room  int // how many new events of the window are a probe
}

// topicBreakers are those of a subscription.
type topicBreakers struct {
	known  map[string]*topicBreaker
	last   *topicBreaker            // that was asked for
	opened map[string]*topicBreaker // those that are open,
	away   atomic.Pointer[map[string]bool]
}

// of returns the breaker of a topic. Where too many are known, those that are closed are forgotten.
func (s *topicBreakers) of(name string) *topicBreaker {
	if s.last != nil && s.last.name == name {
		return s.last
	}
	b := s.known[name]
	if b == nil {
		if len(s.known) >= topicsKnown {
			maps.DeleteFunc(s.known, func(_ string, b *topicBreaker) bool { return !b.open() })
		}
		if s.known == nil {
			s.known, s.opened = map[string]*topicBreaker{}, map[string]*topicBreaker{}
		}
		b = &topicBreaker{name: name}
		s.known[name] = b
	}
	s.last = b
	return b
}

// note takes the result of an attempt, and reports whether it looks as if the topic is away. What it remembers
// of attempts begins with the first that fails: a topic that works costs nothing.
func (s *topicBreakers) note(t trial, topic string, fresh bool, after int) (b *topicBreaker, down bool) {
	b = s.of(topic)
	if t.failed {
		b.fails++
		if b.last == nil {
			b.last = make([]trial, after)
		}
	} else {
		b.worked, b.fails = t.at, 0
	}
	return b, b.last != nil && b.note(t, fresh)
}

// works reports whether attempts at events of a topic succeed, other than the given one.
func (s *topicBreakers) works(now time.Time, other *topicBreaker) bool {
	if len(s.known) < 2 {
		return false
	}
	for _, b := range s.known {
		if b != other && !b.open() && b.fails < breakerLeast && now.Sub(b.worked) < topicWorks {
			return true
		}
	}
	return false
}

// names are the topics that it is open for.
func (s *topicBreakers) names() []string { return slices.Sorted(maps.Keys(s.opened)) }

// changed notes which are open for those beside the runner.
func (s *topicBreakers) changed() {
	away := map[string]bool{}
	for name := range s.opened {
		away[name] = true
	}
	s.away.Store(&away)
}

// beginProbes sees how many new events may be probes now: none where they share a call or a transaction with others. There, all become
// deliveries first, which are tried by themselves.
func (s *topicBreakers) beginProbes(alone bool) {
	if len(s.opened) == 0 {
		return
	}
	now := time.Now()
	for _, b := range s.opened {
		if b.room = 0; alone && !now.Before(b.fresh.next) {
			b.room = b.fresh.size
		}
	}
}

// mayBegin reports whether a new event of a topic may be tried.
func (s *topicBreakers) mayBegin(topic string) bool {
	b := s.opened[topic]
	if b == nil {
		return true
	}
	if b.room == 0 {
		return false
	}
	b.room--
	b.fresh.next = time.Now().Add(probeRest) // until it is known what became of it
	return true
}

// probe returns lines to try, if there may be another probe now.
func (b *topicBreaker) probe(of *backlog, now time.Time) []engine.Line {
	if now.Before(b.again.next) {
		return nil
	}
	lines := of.probe(b.name, now, b.again.size)
	if b.again.next = now.Add(probeSoon); len(lines) > 0 {
		b.again.next = now.Add(probeRest) // until it is known what became of them
	}
	return lines
}

// rest is how long there is no probe of deliveries.
func (s *topicBreakers) rest(of *backlog, now time.Time) time.Duration {
	rest := time.Hour
	for name, b := range s.opened {
		if len(of.waits[name]) > 0 {
			rest = min(rest, b.again.next.Sub(now))
		}
	}
	return rest
}

// awayFor reports whether the breaker is open for events of a topic. Safe for concurrent use.
func (r *runner) awayFor(topic string) bool {
	away := r.topics.away.Load()
	return r.outage.Load() || away != nil && (*away)[topic]
}

// openFor is what the member's row says: the topics that the breaker is open for, or one without a name where that is all of them.
func (r *runner) openFor() []string {
	if r.breaker.open() {
		return []string{""}
	}
	return r.topics.names()
}

// openTopic opens the breaker of a topic.
func (r *runner) openTopic(ctx context.Context, b *topicBreaker, why *failure) {
	b.trip()
	r.topics.opened[b.name] = b
	r.topics.changed()
	r.backlog.part(b.name)
	r.log.Warn("nearly every attempt at events of a topic fails: trying few of them, and counting no attempt that fails, until they succeed; other topics go on",
		"topic", b.name, "error", firstLine(why.text))
	r.tellBreaker(ctx, BreakerState{Subscription: r.sub.Name, Topic: b.name, Open: true, At: b.since, Cause: why.cause()})
}

// joinTopic has the events of a topic tried like others.
func (r *runner) joinTopic(b *topicBreaker) {
	b.breaker = breaker{worked: b.worked}
	delete(r.topics.opened, b.name)
	r.topics.changed()
	r.backlog.join(b.name)
}

// judgeTopics paces the probes of topics.
func (r *runner) judgeTopics(ctx context.Context, now time.Time) {
	for _, b := range r.topics.opened {
		if since := b.since; b.judge(now, r.probeBrief()) {
			r.joinTopic(b)
			r.log.Info("attempts at events of a topic succeed again", "topic", b.name, "after", now.Sub(since).Round(time.Millisecond))
			r.tellBreaker(ctx, BreakerState{Subscription: r.sub.Name, Topic: b.name, At: now})
		}
	}
}
