package admin

import (
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/outbox"
)

// A Concern is a condition of a subscription that needs attention.
type Concern struct {
	Subscription string      `json:"subscription"` // "" where it concerns all of them
	Kind         ConcernKind `json:"kind"`
	Events       int64       `json:"events"`           // how many: those that wait for a worker, are retried, dead or blocked, or how many keys are held, or lanes full; 0 for others
	Topics       []string    `json:"topics,omitempty"` // those that the breaker is open for; nil where it is the whole subscription's, and for other concerns
	Since        *time.Time  `json:"since"`            // when it was paused, began to fail, its breaker opened, the first of its keys was held, or the oldest event that it holds was published; nil for others
}

// A ConcernKind is what a [Concern] is about.
type ConcernKind string

// The kinds of concerns.
const (
	ConcernUnserved ConcernKind = "unserved"  // events wait, and no live worker serves the subscription
	ConcernBreaker  ConcernKind = "breaker"   // nearly every attempt fails, of the subscription or of some topics, so that little is tried and no attempt that fails counts
	ConcernFailing  ConcernKind = "failing"   // attempts fail and nothing succeeds, or an event has failed for longer than FailingTooLong
	ConcernFull     ConcernKind = "full"      // lanes are full: they are not read until half of what failed in them, or waits behind that, is done
	ConcernDead     ConcernKind = "dead"      // it has dead letters
	ConcernBlocked  ConcernKind = "blocked"   // events wait behind failed ones of their keys
	ConcernHeldKeys ConcernKind = "held_keys" // a key has been held for longer than HeldKeysTooLong
	ConcernHolds    ConcernKind = "holds"     // it has yet to settle the oldest event, which is older than HeldTooLong: the log is kept for it
	ConcernPaused   ConcernKind = "paused"
	ConcernForeign  ConcernKind = "foreign" // of no subscription: workers refuse to serve, with outbox.ErrForeignCluster
	ConcernBehind   ConcernKind = "behind"  // of no subscription: workers refuse to serve, with outbox.ErrLogBehind
)

// HeldTooLong is how old the oldest unsettled event may be before a status reports ConcernHolds.
const HeldTooLong = time.Hour

// HeldKeysTooLong is for how long a key may be held before that is a concern.
const HeldKeysTooLong = 15 * time.Minute

// FailingTooLong is for how long an event may fail before that is a concern, while others succeed.
const FailingTooLong = 5 * time.Minute

// failingAlone is for how long an event may fail while nothing succeeds.
const failingAlone = time.Minute

// failing reports whether attempts at events of a subscription fail and nothing succeeds, or one has failed for too long.
func (s *SubscriptionStatus) failing(now time.Time) bool {
	if s.FailingSince == nil {
		return false
	}
	since := now.Sub(*s.FailingSince)
	return since > FailingTooLong || since > failingAlone && (s.HandledAt == nil || now.Sub(*s.HandledAt) > failingAlone)
}

// findConcerns lists what there is to look at, by subscription.
func (s *Status) findConcerns() []Concern {
	list := []Concern{}
	for i := range s.Subscriptions {
		sub := &s.Subscriptions[i]
		add := func(kind ConcernKind, events int64, since *time.Time) {
			list = append(list, Concern{Subscription: sub.Name, Kind: kind, Events: events, Since: since})
		}
		waiting := sub.Lag.Events + sub.Deliveries[outbox.Retrying] + sub.Deliveries[Blocked]
		switch {
		case sub.PausedAt != nil:
			add(ConcernPaused, 0, sub.PausedAt)
		case waiting > 0 && !slices.ContainsFunc(s.Workers, func(w WorkerStatus) bool { return w.Live && slices.Contains(w.Subscriptions, sub.Name) }):
			add(ConcernUnserved, waiting, nil)
		case sub.BreakerOpenedAt != nil:
			add(ConcernBreaker, 0, sub.BreakerOpenedAt)
			if len(sub.BreakerTopics) > 0 {
				list[len(list)-1].Topics = sub.BreakerTopics
			}
		case sub.failing(s.At):
			add(ConcernFailing, sub.Deliveries[outbox.Retrying], sub.FailingSince)
		}
		if sub.FullLanes > 0 {
			add(ConcernFull, sub.FullLanes, nil)
		}
		if dead := sub.Deliveries[outbox.Dead]; dead > 0 {
			add(ConcernDead, dead, nil)
		}
		if blocked := sub.Deliveries[Blocked]; blocked > 0 {
			add(ConcernBlocked, blocked, nil)
		}
		if held := sub.HeldSince; held != nil && s.At.Sub(*held) > HeldKeysTooLong {
			add(ConcernHeldKeys, sub.HeldKeys, held)
		}
		if held := s.Log.OldestAt; held != nil && s.At.Sub(*held) > HeldTooLong && slices.Contains(s.Log.HeldBy, sub.Name) {
			add(ConcernHolds, 0, held)
		}
	}
	return list
}
