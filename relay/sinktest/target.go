package sinktest

import (
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/relay"
)

// Main runs the tests of a package that calls [Run], cleans up, and fails if goroutines are left. It does not return.
func Main(m *testing.M) { pgtest.Main(m) }

// A Target is a sink, and the system behind it. Tests run one after the other, and each has a destination of its own.
type Target struct {
	// New returns a sink for the system. It is called several times in a test; the test closes what it got.
	New func(t *testing.T) relay.Sink

	// Destination makes a destination that takes messages.
	Destination func(t *testing.T) string

	// Received returns all that the system has received at a destination, repetitions included, in the order of each key.
	Received func(t *testing.T, destination string) []Received

	// Unkeyed says that what is received shows no keys.
	Unkeyed bool

	// Stop ends the system so that connections break, and Start begins it again, with what it had acknowledged. Their tests are skipped if nil.
	Stop, Start func(t *testing.T)

	// Freeze has the system keep its connections and answer nothing, and Thaw has it go on. Their tests are skipped if nil.
	Freeze, Thaw func(t *testing.T)

	// Hiccup has the system fail one of the next messages, which succeeds when it is sent again. The test is skipped if nil.
	Hiccup func(t *testing.T)

	// TooLarge is how many bytes of payload the system, or the sink, refuses for good. The test is skipped if 0.
	TooLarge int

	// Missing is a destination that is not there, such as an unknown stream: the sink reports an outage. The test is skipped if empty.
	Missing string

	// Refused is a destination that refuses each message by itself: they become dead letters. The test is skipped if empty.
	Refused string
}

// A Received is a message as the system has it.
type Received struct {
	ID      string            // by which receivers drop what they have seen; the header message-id has it, too
	Key     string            // if the system shows it
	Headers map[string]string // names in any case
	Body    []byte
}
