package dashboard

import (
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/outbox"
)

// heldTooLong is the age of the oldest event from which on it is worth a word that somebody has yet to settle it, as for "outbox
// status".
const heldTooLong = time.Hour

// mentions is how many subscriptions a concern names.
const mentions = 6

// A concern is something to look at, with the subscriptions that have it.
type concern struct {
	What  string
	Alarm bool // nobody wanted it, and it does not end by itself
	About []mention
	More  int // how many others have it
}

// A mention is a subscription with what there is to know about it.
type mention struct{ Name, Link, Note string }

func (c *concern) add(name, link, note string) {
	if len(c.About) == mentions {
		c.More++
		return
	}
	c.About = append(c.About, mention{name, link, note})
}

// concerns is what somebody should look at, the worst first. None where events flow.
func concerns(log outbox.LogStatus, lines []subscriptionLine, now time.Time) []concern {
	unserved, dead := concern{What: "Without a worker", Alarm: true}, concern{What: "Dead letters", Alarm: true}
	blocked, paused, held := concern{What: "Behind a failed event of their key"}, concern{What: "Paused"}, concern{What: "Yet to settle old events"}
	for _, l := range lines {
		page := link("subscription", "name", l.Name)
		waiting := l.Lag.Events + l.Deliveries[string(outbox.Retrying)]
		switch {
		case l.PausedAt != nil:
			paused.add(l.Name, page, "for "+span(now.Sub(*l.PausedAt)))
		case len(l.Workers) == 0 && waiting > 0:
			unserved.add(l.Name, page, num(waiting)+" "+plural(waiting, "waits", "wait"))
		}
		if n := l.Deliveries[string(outbox.Dead)]; n > 0 {
			dead.add(l.Name, link("deadletters", "subscription", l.Name), atMost(n))
		}
		if l.Blocked > 0 {
			blocked.add(l.Name, page, atMost(l.Blocked))
		}
		if at := log.OldestAt; at != nil && now.Sub(*at) > heldTooLong && slices.Contains(log.HeldBy, l.Name) {
			held.add(l.Name, page, "from "+span(now.Sub(*at))+" ago on")
		}
	}
	return slices.DeleteFunc([]concern{unserved, dead, blocked, held, paused}, func(c concern) bool { return len(c.About) == 0 })
}
