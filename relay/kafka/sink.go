package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"github.com/signalbox-go/signalbox/relay"
)

// A Sink sends messages to Kafka. It is safe for concurrent use, but messages of one key have to come one after the other.
type Sink struct {
	config  Config
	options []kgo.Opt
	client  *kgo.Client
	admin   *kadm.Client
	records *semaphore.Weighted // free places for records
	bytes   *semaphore.Weighted
	answers *answers
	stop    context.CancelFunc
	running sync.WaitGroup

	mu         sync.Mutex // taken with the client's locks held: the client must not be called with it
	moved      sync.Cond  // a partition's answered has grown
	flights    map[*flight]struct{}
	detached   map[flightID]*flight // those of which no message waits for the answer
	suspects   map[flightID]suspicion
	lines      map[lineID]*line
	partitions map[partitionID]*partition
	topics     map[string]*topic
	fault      error // why the last connection failed, unless one was made or something was acknowledged since
}

var _ relay.Sink = (*Sink)(nil)

// New returns a sink. It does not connect: see [Sink.Check]. It returns an error wrapping ErrInvalidConfig for an invalid config.
func New(config Config) (*Sink, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	s := &Sink{
		config:     config,
		records:    semaphore.NewWeighted(int64(config.MaxBufferedRecords)),
		bytes:      semaphore.NewWeighted(int64(config.MaxBufferedBytes)),
		answers:    newAnswers(),
		flights:    map[*flight]struct{}{},
		detached:   map[flightID]*flight{},
		suspects:   map[flightID]suspicion{},
		lines:      map[lineID]*line{},
		partitions: map[partitionID]*partition{},
		topics:     map[string]*topic{},
	}
	s.moved.L = &s.mu
	if s.options, err = s.clientOptions(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	if s.client, err = kgo.NewClient(s.options...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	if err := refused(s.client); err != nil {
		s.client.Close()
		return nil, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	s.admin = kadm.NewClient(s.client)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Go(s.answers.run)
	s.running.Go(func() { s.watch(ctx) })
	return s, nil
}

// String says where the sink sends to.
func (s *Sink) String() string { return "kafka://" + strings.Join(s.config.Brokers, ",") }

// AttributePrefix is how headers with attributes of CloudEvents begin in Kafka.
func (s *Sink) AttributePrefix() string { return "ce_" }

// Pipelined reports that messages of one key may be in flight together.
func (s *Sink) Pipelined() bool { return true }

// Close ends the connections.
func (s *Sink) Close() error {
	s.stop()
	s.client.Close()
	for _, client := range s.renewed() {
		client.Close()
	}
	s.answers.close()
	s.running.Wait()
	return nil
}

// errBehind is what becomes of a message when one before it in its line failed.
var errBehind = errors.New("a message before it failed, in its key or its partition")

// Send hands a message to the client. See [relay.Sink].
func (s *Sink) Send(ctx context.Context, m *relay.Message, done func(error)) {
	f := newFlight(s, m)
	if s.join(ctx, f, done) {
		return
	}
	err := s.admit(ctx, f)
	if err == nil {
		if err = s.enter(ctx, f, done); err == nil {
			f.topic.client.Produce(context.Background(), &f.record, func(_ *kgo.Record, err error) { s.answered(f, err) })
			return
		}
		s.release(f)
	}
	s.mu.Lock()
	s.leave(f, err)
	s.mu.Unlock()
	done(told(err))
}

// join puts a message into its line, and reports whether it waits for the record of an earlier try instead, which the client still has.
func (s *Sink) join(ctx context.Context, f *flight, done func(error)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if earlier := s.detached[f.id]; earlier != nil {
		delete(s.detached, f.id)
		earlier.done, earlier.since = done, time.Now()
		earlier.wait(ctx)
		return true
	}
	if f.line = s.line(lineID{f.id.topic, string(f.record.Key)}); f.line != nil {
		f.line.flights++
	}
	return false
}

// enter makes a flight ready for the client, unless it is behind one that failed.
func (s *Sink) enter(ctx context.Context, f *flight, done func(error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.line != nil {
		if !f.line.admits(f.id.message) {
			return errBehind
		}
		f.line.entering = f
	}
	s.flights[f] = struct{}{}
	f.done, f.since = done, time.Now()
	f.wait(ctx)
	return nil
}

// leave takes a flight out of its line. The caller holds s.mu.
func (s *Sink) leave(f *flight, err error) {
	if f.line == nil {
		return
	}
	f.line.flights--
	if err != nil && !final(err) {
		f.line.fail(f.id.message)
	}
	s.forget(f.line)
}

// admit waits for what a flight needs, or says what becomes of it. What it takes is for release to give back.
func (s *Sink) admit(ctx context.Context, f *flight) error {
	t, err := s.topic(ctx, f)
	if err != nil {
		return err
	}
	if err := t.refuses(f); err != nil {
		return refusal{err}
	}
	f.alone = s.suspected(f, t)
	f.topic, f.share, f.weight = t, 1, min(int64(f.size), int64(s.config.MaxBufferedBytes))
	if f.alone {
		f.share = everything
	}
	if err := t.flights.Acquire(ctx, f.share); err != nil {
		return s.late(f, err)
	}
	if err := s.records.Acquire(ctx, 1); err != nil {
		t.flights.Release(f.share)
		return s.late(f, err)
	}
	if err := s.bytes.Acquire(ctx, f.weight); err != nil {
		s.records.Release(1)
		t.flights.Release(f.share)
		return s.late(f, err)
	}
	return nil
}

// release gives back what admit took.
func (s *Sink) release(f *flight) {
	f.topic.flights.Release(f.share)
	s.records.Release(1)
	s.bytes.Release(f.weight)
}

// answered is what the client calls when it is known what became of a record. It must not block: see [flight.Done].
func (s *Sink) answered(f *flight, err error) {
	outcome := f.outcome(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passed(f, err)
	switch {
	case err == nil:
		f.topic.acknowledged.Store(time.Now().UnixNano())
		s.fault = nil
	case refuses(err):
		f.topic.stale = true // its limit may be another now
		if !final(outcome) {
			s.suspect(f, err)
		}
	case gone(err), errors.Is(err, kerr.ClusterAuthorizationFailed): // the topic may be another when it is back; no producer's id is never tried again
		f.topic.stale, f.topic.outdated = true, true
	}
	delete(s.flights, f)
	s.leave(f, outcome)
	if s.detached[f.id] == f {
		delete(s.detached, f.id)
	}
	s.detach(f, outcome)
	s.release(f)
}

// detach gives a message its answer, whatever becomes of the record. The caller holds s.mu.
func (s *Sink) detach(f *flight, err error) {
	if f.done == nil {
		return
	}
	f.stop()
	s.answers.add(f.done, told(err))
	f.done = nil
	if _, flying := s.flights[f]; flying {
		s.detached[f.id] = f
	}
}

func (s *Sink) lost(topic string, partition int32) {
	s.config.Logger.Error("kafka has lost records that it acknowledged: replay the subscription from before the loss",
		"topic", topic, "partition", partition)
}
