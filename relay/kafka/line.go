package kafka

import "time"

type lineID struct{ topic, key string }

// A line is what is in flight of a key. While it holds messages that failed, others of the key are refused: the relay may have
// decided to send them before it learnt of the failure. A message that failed comes again when the relay knows. One that was refused counts as failed,
// so whatever comes next, comes in at its second try at the latest.
type line struct {
	id       lineID
	flights  int
	last     uint64              // the place in the partition of what the client took last
	entering *flight             // what the client may take at any moment
	failed   map[string]struct{} // ids of messages
	since    time.Time           // when the last one failed
}

// line returns the line of a key, or nil without one. The caller holds s.mu.
func (s *Sink) line(id lineID) *line {
	if id.key == "" {
		return nil
	}
	l := s.lines[id]
	if l == nil {
		s.expire()
		l = &line{id: id}
		s.lines[id] = l
	}
	return l
}

// admits reports whether a message may go.
func (l *line) admits(message string) bool {
	if len(l.failed) == 0 {
		return true
	}
	if _, again := l.failed[message]; !again {
		l.fail(message)
		return false
	}
	l.failed = nil
	return true
}

func (l *line) fail(message string) {
	if l.failed == nil {
		l.failed = map[string]struct{}{}
	}
	l.failed[message] = struct{}{}
	l.since = time.Now()
}

// forget drops a line that holds nothing. The caller holds s.mu.
func (s *Sink) forget(l *line) {
	if l.flights == 0 && len(l.failed) == 0 {
		delete(s.lines, l.id)
	}
}

const (
	manyLines = 10_000
	longAgo   = time.Hour
)

// expire drops lines whose failed messages never come again, since another worker sends them now. The caller holds s.mu.
func (s *Sink) expire() {
	if len(s.lines) == 0 || len(s.lines)%manyLines != 0 {
		return
	}
	for id, l := range s.lines {
		if l.flights == 0 && time.Since(l.since) > longAgo {
			delete(s.lines, id)
		}
	}
}
