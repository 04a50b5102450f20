package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/outbox"
)

// heldTooLong is the age of the oldest event from which on it is worth a word that somebody has yet to settle it. "outbox doctor"
// has the same by default.
const heldTooLong = time.Hour

// attention is what somebody should look at, in lines with what to do. None where events flow.
func attention(s *outbox.Status, now time.Time) []string {
	var list []string
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for _, sub := range s.Subscriptions {
		name, waiting := printable(sub.Name), sub.Lag.Events+sub.Deliveries[string(outbox.Retrying)]
		served := slices.ContainsFunc(s.Workers, func(w outbox.WorkerStatus) bool { return slices.Contains(w.Subscriptions, sub.Name) })
		argument := quoted(name)
		switch {
		case sub.PausedAt != nil:
			say("%s has been paused for %s: outbox subscriptions resume %s", name, age(now.Sub(*sub.PausedAt)), argument)
		case !served && waiting > 0:
			say("%s has no worker, and %s", name, waits(waiting))
		}
		if dead := sub.Deliveries[string(outbox.Dead)]; dead > 0 {
			say("%s has %s: outbox deliveries groups -s %s", name, plural(dead, "dead letter", "dead letters"), argument)
		}
		if sub.Blocked > 0 {
			say("%s has events behind failed ones of their keys: %s", name, waits(sub.Blocked))
		}
		if held := s.Log.OldestAt; held != nil && now.Sub(*held) > heldTooLong && slices.Contains(s.Log.HeldBy, sub.Name) {
			say("%s has yet to settle event %d, which is %s old: the log is kept for it", name, s.Log.OldestID, age(now.Sub(*held)))
		}
	}
	return list
}

// waits says that events wait.
func waits(n int64) string {
	if n == 1 {
		return "1 event waits"
	}
	return number(n) + " events wait"
}

// deliveriesText counts deliveries by state, and apart from those that are retrying those that wait behind an earlier one of
// their key.
func deliveriesText(s outbox.SubscriptionStatus) string {
	byState := maps.Clone(s.Deliveries)
	if s.Blocked > 0 {
		byState["blocked"] = s.Blocked
		if byState[string(outbox.Retrying)] -= s.Blocked; byState[string(outbox.Retrying)] <= 0 {
			delete(byState, string(outbox.Retrying))
		}
	}
	return counts(byState, "")
}
