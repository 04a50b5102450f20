package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Check connects, and looks for the stream of each destination, over a connection of its own. It publishes nothing, so whether the user may
// publish is found out by the first message. It needs permission to publish to $JS.API.STREAM.NAMES and $JS.API.STREAM.INFO.*; without, it
// warns that it could not look. It also warns of a stream that forgets ids too early to drop duplicates.
func (s *Sink) Check(ctx context.Context, destinations []string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	conn, err := nats.Connect(s.config.URL, append(s.options[:len(s.options):len(s.options)],
		nats.NoReconnect(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if d, ok := deniedBy(err); ok {
				fail(d)
			}
		}),
	)...)
	if err != nil {
		return s.away(err)
	}
	defer conn.Close()
	client, err := jetstream.New(conn)
	if err != nil {
		return fmt.Errorf("begin JetStream: %w", err)
	}
	for _, destination := range destinations {
		if err := s.checkStream(ctx, client, destination); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sink) checkStream(ctx context.Context, client jetstream.JetStream, subject string) error {
	if fault := subjectFault(subject); fault != "" {
		return fmt.Errorf("cannot publish to subject %q: %s", subject, fault)
	}
	name, err := client.StreamNameBySubject(ctx, subject)
	var stream jetstream.Stream
	if err == nil {
		stream, err = client.Stream(ctx, name)
	}
	var missing denial
	switch {
	case err == nil:
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return noStream(subject)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		return errors.New("the server has no JetStream for this account: start it with --jetstream, or enable JetStream for the account")
	case errors.As(context.Cause(ctx), &missing) && missing.subscribing:
		return missing
	case errors.As(context.Cause(ctx), &missing):
		s.config.Logger.Warn("cannot look at the stream of a subject", "subject", subject, "error", missing)
		return nil
	default:
		return fmt.Errorf("look for the stream of %q: %w", subject, err)
	}
	config := stream.CachedInfo().Config
	if config.Duplicates < s.config.MinDuplicateWindow {
		s.config.Logger.Warn("a message that is sent again may be stored twice: the stream forgets ids early, set its duplicate window to the minimum",
			"stream", name, "duplicate_window", config.Duplicates, "minimum", s.config.MinDuplicateWindow)
	}
	return nil
}
