package rabbitmq

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/signalbox-go/signalbox/worker"
)

// outcome maps the confirmation of a message to what becomes of the event.
func (m *message) outcome(ack bool) error {
	switch {
	case m.returned != nil:
		return worker.DeadLetter(fmt.Errorf("returned by RabbitMQ: %d %s: bind a queue to exchange %q for routing key %q, then retry the dead letter",
			m.returned.ReplyCode, m.returned.ReplyText, m.exchange, m.key))
	case !ack:
		return errors.New("refused by RabbitMQ without a reason (basic.nack): a queue is full and rejects, or has failed")
	default:
		return nil
	}
}

var (
	tooLarge = regexp.MustCompile(`message size (\d+) is larger than configured max size (\d+)`)
	exchange = regexp.MustCompile(`exchange '([^']*)'`)
)

// lost maps why the channel was closed to what becomes of a message that was in flight. The server closes it for the fault of one
// message, and does not say of which: only those that it may be about are blamed, and the others are tried again.
// closing is the reason if this sink has closed it.
func (m *message) lost(cause *amqp.Error, closing error) error {
	switch {
	case closing != nil:
		return closing
	case cause == nil:
		return errLost
	}
	if size := tooLarge.FindStringSubmatch(cause.Reason); size != nil {
		if strconv.Itoa(len(m.publishing.Body)) == size[1] {
			return worker.DeadLetter(fmt.Errorf("message of %s bytes is larger than max_message_size of the server, %s: raise that, then retry the dead letter", size[1], size[2]))
		}
		return errLost
	}
	if named := exchange.FindStringSubmatch(cause.Reason); named != nil && named[1] == m.exchange {
		switch cause.Code {
		case amqp.NotFound:
			return worker.Outage(fmt.Errorf("there is no exchange %q: declare it, or correct the destination", m.exchange))
		case amqp.AccessRefused:
			return worker.Outage(fmt.Errorf("refused by RabbitMQ: %s: give the user write permission for exchange %q", cause.Reason, m.exchange))
		}
	}
	return fmt.Errorf("%w: %d %s", errLost, cause.Code, cause.Reason)
}

// missing says what Check did not find.
func (s *Sink) missing(exchange, queue string, err error) error {
	what := fmt.Sprintf("exchange %q", exchange)
	if exchange == "" {
		what = fmt.Sprintf("queue %q", queue)
	}
	var refusal *amqp.Error
	if errors.As(err, &refusal) && refusal.Code == amqp.NotFound {
		return fmt.Errorf("there is no %s: declare it, or correct the destination", what)
	}
	return fmt.Errorf("look for %s: %w", what, err)
}
