package nats

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/signalbox-go/signalbox/worker"
)

// Codes of the server's errors, as in its errors.json.
const (
	accountExceeded       jetstream.ErrorCode = 10002
	temporarilyAway       jetstream.ErrorCode = 10008
	insufficientResources jetstream.ErrorCode = 10023
	memoryExceeded        jetstream.ErrorCode = 10028
	notForAccount         jetstream.ErrorCode = 10039
	storageExceeded       jetstream.ErrorCode = 10047
	messageTooLarge       jetstream.ErrorCode = 10054
	notEnabled            jetstream.ErrorCode = 10076
	notStored             jetstream.ErrorCode = 10077
	headersTooLarge       jetstream.ErrorCode = 10097
	sealed                jetstream.ErrorCode = 10109
	offline               jetstream.ErrorCode = 10118
	offlineBecause        jetstream.ErrorCode = 10194
)

// outcome maps the error with which a message ended, whether it was sent or not, to what becomes of the event.
func (s *Sink) outcome(client jetstream.JetStream, msg *nats.Msg, err error) error {
	var refusal *jetstream.APIError
	switch {
	case errors.As(err, &refusal):
		return refused(msg, refusal)
	case errors.Is(err, nats.ErrMaxPayload):
		return worker.DeadLetter(fmt.Errorf("message of %d bytes, with its headers, is larger than max_payload of the server, %d: raise that, then retry the dead letter",
			size(msg), client.Conn().MaxPayload()))
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrBadHeaderMsg):
		return worker.DeadLetter(fmt.Errorf("publish to %q: %w", msg.Subject, err))
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return worker.Outage(noStream(msg.Subject))
	case errors.Is(err, nats.ErrDisconnected):
		return errors.New("the connection was lost before the answer, so it is not known whether the message has arrived")
	case errors.Is(err, nats.ErrHeadersNotSupported) && client.Conn().IsConnected():
		return worker.Outage(errors.New("the server knows no headers: use NATS 2.2 or newer"))
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrHeadersNotSupported):
		// Before the first connection, the client takes the server for one without headers.
		s.mu.Lock()
		cause := s.cause
		s.mu.Unlock()
		return worker.Outage(s.away(cause))
	case errors.Is(err, jetstream.ErrInvalidJSAck):
		return fmt.Errorf("subject %q was answered by something that is no stream: leave it to the stream", msg.Subject)
	default:
		return fmt.Errorf("publish to %q: %w", msg.Subject, err)
	}
}

// size returns the bytes of a message that the limits of servers and streams are about.
func size(msg *nats.Msg) int { return msg.Size() - len(msg.Subject) }

// refused maps what a stream answers.
func refused(msg *nats.Msg, refusal *jetstream.APIError) error {
	reason := fmt.Errorf("stream of %q refused the message: %s (code %d)", msg.Subject, refusal.Description, refusal.ErrorCode)
	switch refusal.ErrorCode {
	case messageTooLarge:
		return worker.DeadLetter(fmt.Errorf("%w: it has %d bytes, raise max_msg_size of the stream, then retry the dead letter", reason, size(msg)))
	case headersTooLarge:
		return worker.DeadLetter(reason)
	case notStored:
		// A full stream that discards new messages says so with this code. When it counts messages, it takes none until its consumers have
		// made room. Otherwise a smaller one, or one of another subject, may fit: then it is this message that has to wait, and only when
		// nearly all do, the breaker opens.
		if refusal.Description == "maximum messages exceeded" {
			return worker.Outage(fmt.Errorf("%w: consume from it, or raise its limits", reason))
		}
		return fmt.Errorf("%w: consume from it, or raise its limits", reason)
	case accountExceeded, insufficientResources, memoryExceeded, storageExceeded:
		return worker.Outage(fmt.Errorf("%w: free space, or raise the limits of the account or of the server's JetStream", reason))
	case temporarilyAway, notForAccount, notEnabled, sealed, offline, offlineBecause:
		return worker.Outage(reason)
	default:
		return reason
	}
}

func noStream(subject string) error {
	return fmt.Errorf("no stream takes subject %q: create one with nats stream add NAME --subjects '%s'", subject, subject)
}

// away says that there is no connection, and what to do about the cause as far as it is known.
func (s *Sink) away(cause error) error {
	if cause == nil {
		return fmt.Errorf("not connected to %s", s.config.URL)
	}
	hint := ""
	switch text := cause.Error(); {
	case errors.Is(cause, nats.ErrAuthorization), errors.Is(cause, nats.ErrAuthExpired), errors.Is(cause, nats.ErrAuthRevoked), strings.Contains(text, "Authentication"):
		hint = ": set the user and password, token or credentials that the server expects"
	case strings.Contains(text, "unknown authority"):
		hint = ": set the CA file to the one that signed the certificate of the server"
	case errors.Is(cause, nats.ErrSecureConnRequired):
		hint = ": use tls://"
	case errors.Is(cause, nats.ErrSecureConnWanted):
		hint = ": the server speaks no TLS there: use nats:"
	case strings.Contains(text, "tls"):
		hint = ": if the server demands a client certificate, set one that it trusts"
	case errors.Is(cause, nats.ErrNoServers), strings.Contains(text, "connection refused"), strings.Contains(text, "timeout"), strings.Contains(text, "no such host"):
		hint = ": start the server, or correct the address"
	}
	return fmt.Errorf("not connected to %s: %w%s", s.config.URL, cause, hint)
}

var denied = regexp.MustCompile(`(?i)permissions violation for (publish|subscription) to "([^"]*)"`)

// A denial is what a server says that the user may not do. It does not say of which message.
type denial struct {
	subject     string
	subscribing bool
}

func deniedBy(err error) (denial, bool) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return denial{}, false
	}
	match := denied.FindStringSubmatch(err.Error())
	if match == nil {
		return denial{}, false
	}
	return denial{subject: match[2], subscribing: strings.EqualFold(match[1], "subscription")}, true
}

func (d denial) Error() string {
	if d.subscribing {
		return fmt.Sprintf("the user may not subscribe to %q, where streams answer: allow it to subscribe to _INBOX.>", d.subject)
	}
	return fmt.Sprintf("the user may not publish to %q: allow it in its permissions", d.subject)
}

// asynchronous takes what the server says besides answers.
func (s *Sink) asynchronous(err error) {
	d, ok := deniedBy(err)
	if !ok {
		s.config.Logger.Warn("the NATS server reports an error", "error", err)
		return
	}
	s.answerAll(func(msg *nats.Msg) bool { return d.subscribing || msg.Subject == d.subject }, worker.Outage(d))
}
