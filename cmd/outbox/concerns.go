package main

import (
	"fmt"
	"strings"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/internal/plain"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// concernsText is what somebody should look at, in lines with what to do.
func concernsText(n naming.Name, s *admin.Status) []string {
	var list []string
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(n.Advice(format), args...)) }
	for _, c := range s.Concerns {
		name := plain.Quote(c.Subscription)
		argument := plain.Shell(c.Subscription)
		switch c.Kind {
		case admin.ConcernPaused:
			say("%s has been paused for %s: outbox subscriptions resume %s", name, age(s.At.Sub(*c.Since)), argument)
		case admin.ConcernUnserved:
			say("%s has no worker, and %s: start one, or see outbox subscriptions show %s", name, waits(c.Events), argument)
		case admin.ConcernBreaker:
			at := ""
			if len(c.Topics) > 0 {
				at = " at events of " + topicList(c.Topics)
			}
			say("%s has an open breaker for %s, because nearly every attempt%s fails: outbox deliveries groups -s %s --state retrying; to try now: outbox subscriptions probe %s", name, age(s.At.Sub(*c.Since)), at, argument, argument)
		case admin.ConcernHeldKeys:
			say("%s holds %s, the first for %s: outbox keys list -s %s", name, plural(c.Events, "key", "keys"), age(s.At.Sub(*c.Since)), argument)
		case admin.ConcernFailing:
			say("%s has failed for %s: outbox deliveries groups -s %s --state retrying", name, age(s.At.Sub(*c.Since)), argument)
		case admin.ConcernFull:
			say("%s does not read %s, where so many events failed or wait behind one that did: outbox deliveries groups -s %s --state retrying", name, plural(c.Events, "lane", "lanes"), argument)
		case admin.ConcernDead:
			say("%s has %s: outbox deliveries groups -s %s", name, plural(c.Events, "dead letter", "dead letters"), argument)
		case admin.ConcernBlocked:
			say("%s has events behind failed ones of their keys, and %s: outbox subscriptions show %s", name, waits(c.Events), argument)
		case admin.ConcernForeign:
			say("%s", n.Advised(outbox.ErrForeignCluster))
		case admin.ConcernBehind:
			say("%s", n.Advised(outbox.ErrLogBehind))
		case admin.ConcernHolds:
			say("%s has yet to settle event %d, which is %s old: the log is kept for it: outbox subscriptions show %s", name, s.Log.OldestID, age(s.At.Sub(*c.Since)), argument)
		}
	}
	return list
}

// topicList names topics, and no more than three of them.
func topicList(topics []string) string {
	const most = 3
	names := make([]string, 0, most)
	for _, t := range topics[:min(len(topics), most)] {
		names = append(names, plain.Quote(t))
	}
	if n := len(topics) - most; n > 0 {
		return strings.Join(names, ", ") + " and " + plural(int64(n), "other topic", "other topics")
	}
	return strings.Join(names, ", ")
}

// waits says that events wait.
func waits(n int64) string {
	if n == 1 {
		return "1 event waits"
	}
	return number(n) + " events wait"
}
