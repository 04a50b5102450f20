package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A suspicion is what is known of a message that was in flight when Kafka refused one: it says which batch, and not which message. So each
// goes alone when it is tried again, and if Kafka refuses that, it is the message's own fault.
type suspicion struct {
	limit int // of the topic then, if Kafka found a batch too large
}

// suspect remembers a message. The caller holds s.mu.
func (s *Sink) suspect(f *flight, err error) {
	var found suspicion
	if errors.Is(err, kerr.MessageTooLarge) {
		found.limit = f.topic.maxBytes
	}
	if len(s.suspects) >= manyLines {
		clear(s.suspects) // of those that never came again; the others are found anew
	}
	s.suspects[f.id] = found
}

// suspected reports whether a message has to go alone. One that fits into the limit that the topic has now needs not: its batch was too large by the limit of
// then.
func (s *Sink) suspected(f *flight, t *topic) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, suspected := s.suspects[f.id]
	delete(s.suspects, f.id)
	return suspected && (found.limit == 0 || found.limit == t.maxBytes)
}
