package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/signalbox-go/signalbox/worker"
)

// A session is a connection with one channel in confirm mode. Whatever ends the channel ends the session, and the next message begins
// another one: what was in flight is answered with an error, and sent again by the relay.
//
//	publish ──▶ sent, by delivery tag ──▶ RabbitMQ
//	run     ◀── returns, confirms, blocked, closed
type session struct {
	sink    *Sink
	conn    *amqp.Connection
	channel *amqp.Channel

	confirms      chan amqp.Confirmation
	returns       chan amqp.Return
	blockings     chan amqp.Blocking
	channelClosed chan *amqp.Error
	connClosed    chan *amqp.Error
	ended         chan struct{} // run has returned

	publishing chan struct{} // held for publishing, so that it is known which tag a message gets

	mu      sync.Mutex
	sent    map[uint64]*message
	over    bool   // nothing is put into sent any more
	closing error  // why this sink ends the session, if it does
	blocked string // why the server takes nothing, if so
}

// open begins a session.
func (s *Sink) open(ctx context.Context) (*session, error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	channel, err := conn.Channel()
	if err == nil {
		err = channel.Confirm(false)
	}
	if err != nil {
		closeConnection(conn)
		return nil, s.away(err)
	}
	// The client drops what cannot be put into these for 5 s, such as when this process was stopped meanwhile. A lost return would make a
	// message that no queue took one that was stored. So there is room for the return and the confirmation of each message in sent.
	room := s.config.room()
	e := &session{
		sink: s, conn: conn, channel: channel,
		confirms:      channel.NotifyPublish(make(chan amqp.Confirmation, room)),
		returns:       channel.NotifyReturn(make(chan amqp.Return, room)),
		blockings:     conn.NotifyBlocked(make(chan amqp.Blocking, 2)),
		channelClosed: channel.NotifyClose(make(chan *amqp.Error, 1)),
		connClosed:    conn.NotifyClose(make(chan *amqp.Error, 1)),
		ended:         make(chan struct{}),
		publishing:    make(chan struct{}, 1),
		sent:          map[uint64]*message{},
	}
	go e.run()
	return e, nil
}

func (e *session) lives() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.over && !e.channel.IsClosed()
}

// close ends the session, for a reason of this sink. What is in flight is answered by run.
func (e *session) close(reason error) {
	e.mu.Lock()
	e.closing = reason
	e.mu.Unlock()
	closeConnection(e.conn)
}

// publish sends a message. The error is its answer; otherwise that comes later.
func (e *session) publish(ctx context.Context, m *message) error {
	if limit := e.conn.Config.FrameSize; limit > 0 && m.properties() > limit {
		return worker.DeadLetter(fmt.Errorf("headers of about %d bytes do not fit into a frame of %d: raise frame_max of the server, then retry the dead letter", m.properties(), limit))
	}
	select {
	case e.publishing <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("not sent: %w", context.Cause(ctx))
	}
	defer func() { <-e.publishing }()
	tag := e.channel.GetNextPublishSeqNo()
	if err := e.begin(tag, m); err != nil {
		if errors.Is(err, errUnanswered) {
			m.flight.Answer(err) // before the end of the connection, which takes a while
			e.close(err)
		}
		return err
	}
	confirmation, err := e.channel.PublishWithDeferredConfirm(m.exchange, m.key, true, false, m.publishing)
	e.mu.Lock()
	defer e.mu.Unlock()
	m.confirmation = confirmation
	if err != nil {
		delete(e.sent, tag)
		return fmt.Errorf("publish to exchange %q: %w", m.exchange, err)
	}
	return nil
}

func (e *session) begin(tag uint64, m *message) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.over:
		return errLost
	case e.blocked != "":
		return worker.Outage(fmt.Errorf("RabbitMQ takes no messages (%s): free memory or disk on the server, or raise its watermark", e.blocked))
	}
	if len(e.sent) == e.sink.config.room() {
		return errUnanswered
	}
	e.sent[tag] = m
	return nil
}

// room is how many messages a session may have in sent: those in flight, and as many that were given up and may be answered late.
func (c Config) room() int { return 2 * c.MaxPending }

var (
	errLost       = errors.New("the connection was lost before the confirmation, so it is not known whether the message has arrived")
	errUnanswered = errors.New("RabbitMQ leaves too many messages unconfirmed: the connection was given up, so it is not known whether they have arrived")
)

// outOfOrder is how often run looks for confirmations that the client keeps back, because those of earlier messages are not there yet. One
// slow queue would hold up the answers of all others.
const outOfOrder = 20 * time.Millisecond

// run takes what the server says until the channel is closed.
func (e *session) run() {
	defer close(e.ended)
	ticker := time.NewTicker(outOfOrder)
	defer ticker.Stop()
	blockings := e.blockings
	for {
		select {
		case c, open := <-e.confirms:
			if !open {
				e.end()
				return
			}
			e.takeReturns()
			e.confirmed(c.DeliveryTag, c.Ack)
		case b, open := <-blockings:
			if !open {
				blockings = nil
				continue
			}
			e.setBlocked(b)
		case <-ticker.C:
			e.confirmOutOfOrder()
		}
	}
}

func (e *session) setBlocked(b amqp.Blocking) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.blocked = b.Reason; !b.Active {
		e.blocked = ""
	}
}

// takeReturns notes what came back. The server returns a message before it confirms it, so this has to be called after a confirmation
// was received and before it is acted upon.
func (e *session) takeReturns() {
	for {
		select {
		case r, open := <-e.returns:
			if !open {
				return
			}
			e.mu.Lock()
			for _, m := range e.sent {
				if m.publishing.MessageId == r.MessageId {
					m.returned = &r
				}
			}
			e.mu.Unlock()
		default:
			return
		}
	}
}

func (e *session) confirmed(tag uint64, ack bool) {
	e.mu.Lock()
	m := e.sent[tag]
	delete(e.sent, tag)
	e.mu.Unlock()
	if m != nil {
		m.flight.Answer(m.outcome(ack))
	}
}

func (e *session) confirmOutOfOrder() {
	var tags []uint64
	e.mu.Lock()
	for tag, m := range e.sent {
		if m.confirmation != nil && m.confirmation.Acked() {
			tags = append(tags, tag)
		}
	}
	e.mu.Unlock()
	if len(tags) == 0 {
		return
	}
	e.takeReturns()
	for _, tag := range tags {
		e.confirmed(tag, true)
	}
}

// end answers what is in flight when the channel is closed. All that was confirmed before has been answered.
func (e *session) end() {
	var cause *amqp.Error
	select {
	case cause = <-e.channelClosed: // nil if this sink has closed it
	default:
	}
	if cause == nil {
		select {
		case cause = <-e.connClosed:
		default:
		}
	}
	e.takeReturns()
	e.mu.Lock()
	e.over = true
	left, closing := e.sent, e.closing
	e.sent = nil
	e.mu.Unlock()
	for _, m := range left {
		m.flight.Answer(m.lost(cause, closing))
	}
	closeConnection(e.conn) // it lives on when only the channel was closed
}
