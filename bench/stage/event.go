package stage

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/signalbox-go/signalbox/bench/systems"
)

// What events are like.
const (
	Keys         = 1000 // how many different ones events have
	payloadBytes = 160  // of JSON
)

// Event returns the n-th event. Its payload begins with n, also as jsonb, which sorts short names first.
func Event(n int64) systems.Event {
	key := fmt.Sprintf("key-%d", n%Keys)
	head := fmt.Sprintf(`{"n":%d,"key":"%s","total":%d,"note":"`, n, key, n%10_000)
	const tail = `"}`
	return systems.Event{Key: key, Payload: []byte(head + strings.Repeat("x", payloadBytes-len(head)-len(tail)) + tail)}
}

// Events returns the events from the first number up to the second, without it.
func Events(from, to int64) []systems.Event {
	list := make([]systems.Event, 0, to-from)
	for n := from; n < to; n++ {
		list = append(list, Event(n))
	}
	return list
}

// Sequence reads n from a payload without the cost of a decoder.
func Sequence(payload []byte) int64 {
	n, begun := int64(0), false
	for _, c := range payload {
		switch {
		case c >= '0' && c <= '9':
			n, begun = 10*n+int64(c-'0'), true
		case begun:
			return n
		}
	}
	return n
}

// stamps remembers when the commits of events were sent. There is room for those that are under way.
type stamps []atomic.Int64

func newStamps() stamps { return make(stamps, 1<<21) }

func (s stamps) set(n int64, at time.Time) { s[n%int64(len(s))].Store(at.UnixNano()) }
func (s stamps) at(n int64) time.Time      { return time.Unix(0, s[n%int64(len(s))].Load()) }
