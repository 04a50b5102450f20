package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/signalbox-go/signalbox/worker"
)

// A refusal is the fault of a message, and final.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func final(err error) bool {
	var r refusal
	return errors.As(err, &r)
}

// told is what the relay is told.
func told(err error) error {
	var r refusal
	if errors.As(err, &r) {
		return worker.DeadLetter(r.error)
	}
	return err
}

// refuses reports whether Kafka refuses a batch for what is in a message of it.
func refuses(err error) bool {
	return isOneOf(err, kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.PolicyViolation)
}

// gone reports whether a topic that was there is not any more.
func gone(err error) bool { return isOneOf(err, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID) }

// outcome is what becomes of a message, by what the client says of its record.
func (f *flight) outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errBehind):
		return errBehind
	case refuses(err) && (f.alone || f.partition == nil): // without a partition, the client itself refuses it
		return refusal{fmt.Errorf("kafka refuses the message for the topic %s: %w", f.id.topic, err)}
	case refuses(err):
		return fmt.Errorf("kafka refuses a message of this one's partition, so this one goes alone next: %w", err)
	case isOutage(err):
		return worker.Outage(f.sink.advise(f.id.topic, err))
	default:
		return fmt.Errorf("send to the topic %s: %w", f.id.topic, err)
	}
}

func isOutage(err error) bool {
	var dial *net.OpError
	var eof *kgo.ErrFirstReadEOF
	return gone(err) || errors.As(err, &dial) || errors.As(err, &eof) || isUntrusted(err) || isOneOf(err,
		kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism,
		kerr.IllegalSaslState, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.BrokerNotAvailable, kerr.LeaderNotAvailable,
		kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.NetworkException)
}

func isUntrusted(err error) bool {
	var authority x509.UnknownAuthorityError
	var verification *tls.CertificateVerificationError
	return errors.As(err, &authority) || errors.As(err, &verification)
}

func isOneOf(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// advise says what to do about an outage, in one line.
func (s *Sink) advise(topic string, err error) error {
	if isOneOf(err, context.DeadlineExceeded, context.Canceled) {
		s.mu.Lock()
		if s.fault != nil {
			err = s.fault
		}
		s.mu.Unlock()
	}
	var dial *net.OpError
	switch {
	case gone(err):
		return fmt.Errorf("the topic %s does not exist: create it, or let the relay (AutoTopicCreation): %w", topic, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("the user may not write to the topic %s: grant it Write and Describe there: %w", topic, err)
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return fmt.Errorf("the user may not do this in the cluster: grant it IdempotentWrite there, or Create for topics: %w", err)
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Errorf("kafka refuses the credentials: check user and secret: %w", err)
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return fmt.Errorf("kafka does not offer this SASL mechanism: choose one that it has: %w", err)
	case isUntrusted(err):
		return fmt.Errorf("the broker's certificate is not trusted: give the CA that signed it, and the name that it is for: %w", err)
	case isOneOf(err, context.DeadlineExceeded, context.Canceled):
		return fmt.Errorf("no broker answers in time at %v: check the addresses, TLS and the brokers: %w", s.config.Brokers, err)
	case errors.As(err, &dial):
		return fmt.Errorf("no broker answers at %v: check the addresses and the brokers: %w", s.config.Brokers, err)
	}
	return err
}

// late is what becomes of a message whose context has ended. It is an outage if Kafka has acknowledged nothing of its topic meanwhile.
func (s *Sink) late(f *flight, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) || f.topic != nil && f.topic.acknowledged.Load() > f.since.UnixNano() {
		return fmt.Errorf("wait for an acknowledgement of the topic %s: %w", f.id.topic, err)
	}
	return worker.Outage(fmt.Errorf("nothing of the topic %s was acknowledged in %v: check its replicas and the brokers: %w",
		f.id.topic, time.Since(f.since).Round(time.Millisecond), err))
}

// patience is how long a message waits while connections fail, before it is answered.
const patience = 3 * time.Second

// hooks are what the client calls, apart from the Sink: its users have no use for them.
type hooks struct{ *Sink }

// OnBrokerConnect is called by the client when it has tried to connect.
func (h hooks) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = err
}

// watch answers messages that wait while connections fail, since the client never gives up.
func (s *Sink) watch(ctx context.Context) {
	ticker := time.NewTicker(patience / 10)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s.mu.Lock()
		fault := s.fault
		s.mu.Unlock()
		if fault == nil {
			continue
		}
		err := worker.Outage(s.advise("", fault))
		s.mu.Lock()
		for f := range s.flights {
			if s.fault != nil && time.Since(f.since) > patience {
				s.detach(f, err)
			}
		}
		s.mu.Unlock()
	}
}
