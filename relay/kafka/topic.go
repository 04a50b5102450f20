package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"github.com/signalbox-go/signalbox/worker"
)

// everything is how many shares of a topic there are: a flight takes one, and one that has to be alone takes all.
const everything = 1 << 40

const (
	askFor   = 5 * time.Second // how long Kafka may take to say what a topic is like
	askAgain = time.Second     // how long an answer counts if the topic is not as it should be
)

// A topic is what the sink knows of a topic. It lives as long as the sink.
type topic struct {
	name    string
	flights *semaphore.Weighted
	asking  *semaphore.Weighted // one at a time asks Kafka for it

	acknowledged atomic.Int64 // when Kafka last acknowledged a record, in nanoseconds

	// The client that sends to it, which flights may read. A client keeps to what it first learnt of a topic, so when that changes, the
	// topic gets a client of its own. (It could also forget topics, but begins their sequence numbers anew then, under the same epoch: the broker would
	// take a new batch for one that it has.)
	client *kgo.Client

	// Behind Sink.mu.
	outdated bool // its client must not send to it any more
	stale    bool // it has to be asked for before the next message
	asked    time.Time
	err      error // why it cannot be sent to
	limits
}

type limits struct {
	maxBytes  int
	compacted bool
}

// topic returns the topic of a flight. It asks Kafka the first time, when something showed that it is another now, and, at most once a
// second, when it is missing or would refuse the flight.
func (s *Sink) topic(ctx context.Context, f *flight) (*topic, error) {
	t, err, ok := s.known(f)
	if ok {
		return t, err
	}
	if err := t.asking.Acquire(ctx, 1); err != nil {
		return nil, s.late(f, err)
	}
	defer t.asking.Release(1)
	if _, err, ok := s.known(f); ok { // another has asked meanwhile
		return t, err
	}
	l, err := s.ask(ctx, t.name)
	if err == nil && s.differs(t, l) {
		if err := t.flights.Acquire(ctx, everything); err != nil { // what is in flight has to land first
			return nil, s.late(f, err)
		}
		defer t.flights.Release(everything)
		err = s.renew(t)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.err, t.stale, t.asked = err, false, time.Now()
	if err != nil {
		return nil, err
	}
	t.limits, t.outdated = l, false
	return t, nil
}

// differs reports whether a topic is another than its client knows.
func (s *Sink) differs(t *topic, l limits) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.outdated || t.maxBytes != 0 && t.maxBytes != l.maxBytes
}

// renew gives a topic another client. Nothing of the topic is in flight. The client calls batchBytes, so Sink.mu is free.
func (s *Sink) renew(t *topic) error {
	client, err := kgo.NewClient(s.options...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	old := t.client
	t.client = client
	s.mu.Unlock()
	if old != s.client {
		old.Close()
	}
	return nil
}

// renewed returns the clients that topics have of their own.
func (s *Sink) renewed() (clients []*kgo.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.topics {
		if t.client != s.client {
			clients = append(clients, t.client)
		}
	}
	return clients
}

// known returns what is known of the topic of a flight, and whether that is enough.
func (s *Sink) known(f *flight) (t *topic, err error, ok bool) { //nolint:revive // err is the topic's, and no failure of known
	s.mu.Lock()
	defer s.mu.Unlock()
	name := f.record.Topic
	if t = s.topics[name]; t == nil {
		t = &topic{name: name, flights: semaphore.NewWeighted(everything), asking: semaphore.NewWeighted(1), client: s.client, stale: true}
		s.topics[name] = t
	}
	doubtful := t.err != nil || t.refuses(f) != nil
	return t, t.err, !t.stale && (!doubtful || time.Since(t.asked) < askAgain)
}

// ask asks Kafka for a topic, and creates it if that is asked for.
func (s *Sink) ask(ctx context.Context, name string) (limits, error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	details, err := s.admin.ListTopics(ctx, name)
	if err == nil {
		err = details[name].Err
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) && s.config.AutoTopicCreation > 0 {
		err = s.create(ctx, name)
	}
	switch {
	case errors.Is(err, kerr.InvalidTopicException):
		return limits{}, refusal{fmt.Errorf("%q is no name of a topic: correct the route: %w", name, err)}
	case err != nil:
		return limits{}, worker.Outage(s.advise(name, err))
	}
	return s.limits(ctx, name)
}

// create creates a topic and waits until the brokers know it, which learn of it later.
func (s *Sink) create(ctx context.Context, name string) error {
	_, err := s.admin.CreateTopic(ctx, int32(s.config.AutoTopicCreation), -1, nil, name) //nolint:gosec // New has looked at it
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return err
	}
	for {
		details, err := s.admin.ListTopics(ctx, name)
		if err != nil || !gone(details[name].Err) && !errors.Is(details[name].Err, kerr.LeaderNotAvailable) {
			return err
		}
		select {
		case <-ctx.Done():
			return details[name].Err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// limits asks for the topic's settings. They are the defaults where the user may not see them.
func (s *Sink) limits(ctx context.Context, name string) (limits, error) {
	values, err := s.settings(ctx, name)
	if err != nil && !errors.Is(err, kerr.TopicAuthorizationFailed) && !errors.Is(err, kerr.ClusterAuthorizationFailed) {
		return limits{}, worker.Outage(s.advise(name, err))
	}
	l := limits{maxBytes: defaultMaxMessageBytes, compacted: strings.Contains(values["cleanup.policy"], "compact")}
	if n, err := strconv.Atoi(values["max.message.bytes"]); err == nil {
		l.maxBytes = min(max(n, 1024), maxMessageBytes)
	} else if s.config.MaxMessageBytes > 0 {
		l.maxBytes = s.config.MaxMessageBytes
	}
	if s.config.MaxMessageBytes > 0 {
		l.maxBytes = min(l.maxBytes, s.config.MaxMessageBytes)
	}
	return l, nil
}

// settings returns those of a topic by name.
func (s *Sink) settings(ctx context.Context, name string) (map[string]string, error) {
	described, err := s.admin.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return nil, err
	}
	config, err := described.On(name, nil)
	if err != nil {
		return nil, err
	}
	if config.Err != nil {
		return nil, config.Err
	}
	values := map[string]string{}
	for _, c := range config.Configs {
		values[c.Key] = c.MaybeValue()
	}
	return values, nil
}

// refuses says why Kafka would not take a message. What it refuses itself fails everything in the partition.
func (l limits) refuses(f *flight) error {
	switch {
	case l.maxBytes > 0 && f.size > l.maxBytes:
		return fmt.Errorf("the message has %d bytes, and the topic %s takes %d: raise max.message.bytes there (or MaxMessageBytes here), then retry it",
			f.size, f.record.Topic, l.maxBytes)
	case l.compacted && f.record.Key == nil:
		return fmt.Errorf("the event has no key, and the topic %s is compacted: give such events a key, or route them elsewhere", f.record.Topic)
	}
	return nil
}

// batchBytes tells the client how large a batch for a topic may be.
func (s *Sink) batchBytes(name string) int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.topics[name]; t != nil && t.maxBytes > 0 {
		return int32(t.maxBytes) //nolint:gosec // at most maxMessageBytes
	}
	return defaultMaxMessageBytes
}
