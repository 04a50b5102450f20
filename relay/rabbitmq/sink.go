package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/internal/inflight"
	"github.com/signalbox-go/signalbox/worker"
)

// A Sink publishes messages to exchanges. It connects when it sends the first one, and again when it sends one after the connection was
// lost. Its methods are safe for concurrent use.
type Sink struct {
	config  Config
	flights *inflight.Set

	lock    chan struct{} // held for what is below, also while it connects
	session *session      // the last one, which may have ended
	failure error         // of the last attempt to connect, if it failed
	tried   time.Time
	closed  bool
}

var _ relay.Sink = (*Sink)(nil)

// New returns a sink. It does not connect yet: Check tries that.
func New(c Config) (*Sink, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Sink{config: c, flights: inflight.New(c.MaxPending, c.AckTimeout), lock: make(chan struct{}, 1)}, nil
}

// String says where the sink sends to.
func (s *Sink) String() string { return s.config.URL }

// AttributePrefix is how headers with attributes of CloudEvents begin in AMQP, in the spelling that clients of JMS read, too.
func (s *Sink) AttributePrefix() string { return "cloudEvents_" }

// Pipelined reports false: RabbitMQ takes what it gets, also behind a message that it refused.
func (s *Sink) Pipelined() bool { return false }

// Send publishes a message. See [relay.Sink].
func (s *Sink) Send(ctx context.Context, m *relay.Message, done func(error)) {
	msg, err := s.config.newMessage(m)
	if err != nil {
		done(worker.DeadLetter(err))
		return
	}
	if msg.flight = s.flights.Begin(ctx, done); msg.flight == nil {
		return
	}
	session, err := s.connect(ctx)
	if err == nil {
		err = session.publish(ctx, msg)
	}
	if err != nil {
		msg.flight.Answer(err)
	}
}

// connect returns a session that lives. While the server is away, it tries once a second.
func (s *Sink) connect(ctx context.Context) (*session, error) {
	select {
	case s.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-s.lock }()
	switch {
	case s.closed:
		return nil, worker.Outage(errClosed)
	case s.session != nil && s.session.lives():
		return s.session, nil
	case s.failure != nil && time.Since(s.tried) < time.Second:
		return nil, worker.Outage(s.failure)
	}
	session, err := s.open(ctx)
	switch {
	case err == nil:
		s.session = session
	case ctx.Err() == nil: // else it says nothing about the server
		s.failure, s.tried = err, time.Now()
	}
	if err != nil {
		return nil, worker.Outage(err)
	}
	return session, nil
}

// Close ends the connection, and answers what is in flight.
func (s *Sink) Close() error {
	s.lock <- struct{}{}
	defer func() { <-s.lock }()
	s.closed = true
	if s.session != nil {
		s.session.close(errClosed)
		<-s.session.ended
	}
	return nil
}

var errClosed = errors.New("the sink is closed")

// Check connects, and looks for the exchange of each destination, or for the queue if it names one, over a connection of its own. It
// publishes nothing, so whether the user may, and whether a queue takes what it publishes, is found out by the first message.
func (s *Sink) Check(ctx context.Context, destinations []string) error {
	conn, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer closeConnection(conn)
	channel, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	for _, destination := range destinations {
		exchange, key := s.config.route(destination)
		if exchange != "" {
			err = channel.ExchangeDeclarePassive(exchange, "", false, false, false, false, nil)
		} else {
			_, err = channel.QueueDeclarePassive(key, false, false, false, false, nil)
		}
		if err != nil {
			return s.missing(exchange, key, err)
		}
	}
	return nil
}
