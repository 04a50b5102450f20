package webhook

import (
	"cmp"
	"slices"
	"time"
)

// A Status says what a sink does at a moment.
type Status struct {
	Running     int       // requests
	Waiting     int       // messages in the sink that wait for a request to end
	Troubles    []Trouble // by endpoint
	FailedReads int64     // how many changes of the file were not valid
}

// A Trouble is an endpoint that takes no messages.
type Trouble struct {
	Endpoint string
	State    State
	Until    time.Time // of one that is paused; of one that is down, when it is probed next
	Error    string    // of one that is gone
}

// A State is why an endpoint takes no messages.
type State string

// The states of endpoints in trouble.
const (
	Down   State = "down"   // its breaker is open
	Paused State = "paused" // it wants to be left alone for a time
	Gone   State = "gone"   // it said 410
)

// Status returns what the sink does.
func (s *Sink) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := Status{Running: s.running, Waiting: s.waiting}
	if s.file != nil {
		status.FailedReads = s.file.failed.Load()
	}
	now := time.Now()
	for name, q := range s.queues {
		trouble := Trouble{Endpoint: shown(name)}
		switch {
		case q.stale: // begins anew with its next message
			continue
		case q.gone != nil:
			trouble.State, trouble.Error = Gone, q.gone.Error()
		case now.Before(q.paused):
			trouble.State, trouble.Until = Paused, q.paused
		case q.breaker.open():
			trouble.State, trouble.Until = Down, q.breaker.next
		default:
			continue
		}
		status.Troubles = append(status.Troubles, trouble)
	}
	slices.SortFunc(status.Troubles, func(a, b Trouble) int { return cmp.Compare(a.Endpoint, b.Endpoint) })
	return status
}
