package main

import (
	"fmt"

	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox"
)

// concernsText is what somebody should look at, in lines with what to do.
func concernsText(s *outbox.Status) []string {
	var list []string
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for _, c := range s.Concerns {
		name := plain.Quote(c.Subscription)
		argument := plain.Shell(c.Subscription)
		switch c.Kind {
		case outbox.ConcernPaused:
			say("%s has been paused for %s: outbox subscriptions resume %s", name, age(s.At.Sub(*c.Since)), argument)
		case outbox.ConcernUnserved:
			say("%s has no worker, and %s", name, waits(c.Events))
		case outbox.ConcernDead:
			say("%s has %s: outbox deliveries groups -s %s", name, plural(c.Events, "dead letter", "dead letters"), argument)
		case outbox.ConcernBlocked:
			say("%s has events behind failed ones of their keys: %s", name, waits(c.Events))
		case outbox.ConcernHolds:
			say("%s has yet to settle event %d, which is %s old: the log is kept for it", name, s.Log.OldestID, age(s.At.Sub(*c.Since)))
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
