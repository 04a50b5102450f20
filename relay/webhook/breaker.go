package webhook

import (
	"slices"
	"time"
)

const (
	// An endpoint is down when so many messages have failed since the last one that succeeded.
	downAfter = 5
	// While it is down, it is probed with one message, after a pause that grows.
	probeSoon, probeRest = 100 * time.Millisecond, 5 * time.Second
	// What waits for it comes back later and later, after half of the time that it has been down: after backMost if few wait, and up to
	// returnMost if many do. Each time, a row is written.
	backMost = 30 * time.Second
)

// A breaker tells an endpoint that is down from messages that fail. It is the one of an endpoint, as the subscription has one for all of
// them. It closes by doubling what it lets through.
type breaker struct {
	failed []string  // the ids of messages that failed since the last one that succeeded
	since  time.Time // when it opened
	pause  time.Duration
	next   time.Time // when the next probe may begin
	room   int       // how many requests may run, from then on
}

func (b *breaker) open() bool { return !b.since.IsZero() }

// clean reports whether nothing is to be remembered.
func (b *breaker) clean() bool { return !b.open() && len(b.failed) == 0 }

// fail notes that a message failed, which may be its own fault, and reports whether the breaker opens.
func (b *breaker) fail(id string, probe bool, now time.Time) (opens bool) {
	if !b.open() {
		if !slices.Contains(b.failed, id) {
			b.failed = append(b.failed, id)
		}
		if len(b.failed) < downAfter {
			return false
		}
	}
	return b.trip(probe, now)
}

// trip notes a failure that is the endpoint's fault, and reports whether the breaker opens. What began before it opened says nothing.
func (b *breaker) trip(probe bool, now time.Time) (opens bool) {
	switch {
	case !b.open():
		b.since, b.pause, b.failed, opens = now, probeSoon, nil, true
	case probe && !now.Before(b.next): // else another probe of the same round has failed already
		b.pause = min(probeRest, 2*b.pause)
	default:
		return false
	}
	b.next, b.room = now.Add(b.pause), 1
	return opens
}

// succeed notes an answer, and reports whether the breaker closes.
func (b *breaker) succeed(probe bool, most int, now time.Time) (closes bool) {
	if !b.open() {
		b.failed = nil
		return false
	}
	if !probe || now.Before(b.next) {
		return false
	}
	b.room *= 2
	if b.room <= most {
		return false
	}
	*b = breaker{}
	return true
}

// probes is how long until the endpoint is probed again.
func (b *breaker) probes(now time.Time) time.Duration { return max(0, b.next.Sub(now)) }

// back is how long a message stays away that comes while the endpoint is down: at least, and at most where many do.
func (b *breaker) back(now time.Time) (least, most time.Duration) {
	half := now.Sub(b.since) / 2
	return max(b.probes(now), min(backMost, half)), min(returnMost, max(backMost, half))
}
