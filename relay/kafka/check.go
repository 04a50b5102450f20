package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// checkFor is how long a check waits for Kafka, if its context does not end before.
const checkFor = 15 * time.Second

// Check tries the connection, the credentials, and for each destination whether the topic exists (it is created if that is asked for), may be
// written to, and takes what MaxMessageBytes allows. Each fault is a line of the error.
func (s *Sink) Check(ctx context.Context, destinations []string) error {
	ctx, cancel := context.WithTimeout(ctx, checkFor)
	defer cancel()
	if _, err := s.admin.BrokerMetadata(ctx); err != nil {
		return s.advise("", err)
	}
	faults := []error{s.mayProduce(ctx)}
	for _, name := range destinations {
		details, err := s.admin.ListTopics(kadm.WithAuthorizedOps(ctx), name)
		if err != nil {
			return s.advise(name, err)
		}
		faults = append(faults, s.checkTopic(ctx, name, details[name]))
	}
	return errors.Join(faults...)
}

// mayProduce asks for a producer's id, as the client does before it produces.
func (s *Sink) mayProduce(ctx context.Context) error {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.ProducerID, req.ProducerEpoch, req.TransactionTimeoutMillis = -1, -1, 60_000
	resp, err := req.RequestWith(ctx, s.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return s.advise("", err)
	}
	return nil
}

func (s *Sink) checkTopic(ctx context.Context, name string, d kadm.TopicDetail) error {
	switch {
	case errors.Is(d.Err, kerr.UnknownTopicOrPartition) && s.config.AutoTopicCreation > 0:
		if err := s.create(ctx, name); err != nil {
			return fmt.Errorf("create the topic %s: %w", name, s.advise(name, err))
		}
		return nil
	case errors.Is(d.Err, kerr.InvalidTopicException):
		return fmt.Errorf("%q is no name of a topic: correct the route: %w", name, d.Err)
	case d.Err != nil:
		return s.advise(name, d.Err)
	case len(d.AuthorizedOperations) > 0 && !slices.Contains(d.AuthorizedOperations, kadm.OpWrite):
		return fmt.Errorf("the user may not write to the topic %s: grant it Write there", name)
	}
	settings, err := s.settings(ctx, name)
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		return nil // it may be written to, and its settings are not needed
	}
	if err != nil {
		return fmt.Errorf("read the settings of the topic %s: %w", name, s.advise(name, err))
	}
	if n, err := strconv.Atoi(settings["max.message.bytes"]); err == nil && n < s.config.MaxMessageBytes {
		return fmt.Errorf("the topic %s takes messages of %d bytes, and MaxMessageBytes is %d: raise max.message.bytes there, or lower it here", name, n, s.config.MaxMessageBytes)
	}
	return nil
}
