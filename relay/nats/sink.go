package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/internal/inflight"
	"github.com/signalbox-go/signalbox/worker"
)

// A Sink publishes messages to streams. It connects when it sends the first one, and again, by itself, whenever the connection is lost. Its
// methods are safe for concurrent use.
type Sink struct {
	config     Config
	options    []nats.Option
	flights    *inflight.Set
	duplicates atomic.Int64

	connecting sync.Mutex // held while the client is made, which takes a while if the server is away
	client     jetstream.JetStream
	closed     bool

	mu    sync.Mutex
	sent  map[*nats.Msg]*inflight.Flight // what the client has not told the end of
	cause error                          // why there is no connection, as far as is known
}

var _ relay.Sink = (*Sink)(nil)

// New returns a sink. It does not connect yet: Check tries that.
func New(c Config) (*Sink, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	options, err := c.options()
	if err != nil {
		return nil, err
	}
	return &Sink{
		config: c, options: options, flights: inflight.New(c.MaxPending, c.AckTimeout), sent: map[*nats.Msg]*inflight.Flight{},
	}, nil
}

// String says where the sink sends to.
func (s *Sink) String() string { return s.config.URL }

// Duplicates returns how many messages streams have dropped, because they had stored them already.
func (s *Sink) Duplicates() int64 { return s.duplicates.Load() }

// Pipelined reports false: streams store what they get, also behind a message that they refused.
func (s *Sink) Pipelined() bool { return false }

// Send publishes a message. See [relay.Sink].
func (s *Sink) Send(ctx context.Context, m *relay.Message, done func(error)) {
	msg, err := message(m)
	if err != nil {
		done(worker.DeadLetter(err))
		return
	}
	flight := s.flights.Begin(ctx, done)
	if flight == nil {
		return
	}
	client, err := s.connect()
	if err != nil {
		flight.Answer(worker.Outage(err))
		return
	}
	s.mu.Lock()
	s.sent[msg] = flight
	s.mu.Unlock()
	if _, err := client.PublishMsgAsync(msg); err != nil {
		s.answer(msg, s.outcome(client, msg, err))
	}
}

// answer ends the flight of a message. The client may tell the end of a message twice, such as of one that it could not write because
// the connection broke.
func (s *Sink) answer(msg *nats.Msg, err error) {
	s.mu.Lock()
	flight := s.sent[msg]
	delete(s.sent, msg)
	s.mu.Unlock()
	if flight != nil {
		flight.Answer(err)
	}
}

// answerAll ends the flights of the messages that are chosen.
func (s *Sink) answerAll(chosen func(*nats.Msg) bool, err error) {
	var ends []*inflight.Flight
	s.mu.Lock()
	for msg, flight := range s.sent {
		if chosen(msg) {
			ends = append(ends, flight)
			delete(s.sent, msg)
		}
	}
	s.mu.Unlock()
	for _, flight := range ends {
		flight.Answer(err)
	}
}

// connect returns the client, and makes it the first time. From then on it connects by itself, for ever.
func (s *Sink) connect() (jetstream.JetStream, error) {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.client != nil {
		return s.client, nil
	}
	conn, err := nats.Connect(s.config.URL, append(s.options[:len(s.options):len(s.options)],
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // who is refused now may be let in later, as when a password was changed on both sides
		nats.ReconnectBufSize(-1),   // what cannot be sent now is answered now, and not sent some time later
		nats.ConnectHandler(func(*nats.Conn) { s.setCause(nil) }),
		nats.ReconnectHandler(func(*nats.Conn) { s.setCause(nil) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { s.setCause(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { s.setCause(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.asynchronous(err) }),
	)...)
	if err != nil {
		return nil, s.away(err)
	}
	client, err := jetstream.New(conn,
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, msg *nats.Msg, ack *jetstream.PubAck) {
			if ack.Duplicate {
				s.duplicates.Add(1)
			}
			s.answer(msg, nil)
		}),
		jetstream.WithPublishAsyncErrHandler(func(client jetstream.JetStream, msg *nats.Msg, err error) {
			if errors.Is(err, jetstream.ErrAsyncPublishTimeout) {
				// Answered before, when AckTimeout was over: only now does the client forget the message. It holds a lock here.
				s.mu.Lock()
				delete(s.sent, msg)
				s.mu.Unlock()
				return
			}
			s.answer(msg, s.outcome(client, msg, err))
		}),
		jetstream.WithPublishAsyncTimeout(2*s.config.AckTimeout),
	)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("begin JetStream: %w", err)
	}
	s.client = client
	return client, nil
}

// setCause notes why there is no connection. The client calls it in the order of what happens.
func (s *Sink) setCause(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cause = err
}

// Close ends the connection, and answers what is in flight.
func (s *Sink) Close() error {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	s.closed = true
	if s.client != nil {
		s.client.Conn().Close()
		s.client = nil
	}
	s.answerAll(func(*nats.Msg) bool { return true }, errClosed)
	return nil
}

var errClosed = errors.New("the sink is closed")
