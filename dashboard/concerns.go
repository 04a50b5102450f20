package dashboard

import (
	"slices"

	"github.com/signalbox-go/signalbox/internal/naming"
	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// mentions is how many subscriptions a concern names.
const mentions = 6

// A concern is a kind of things to look at, with the subscriptions that have it.
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

// concerns groups what somebody should look at by what it is, the worst first.
func concerns(o outbox.Outbox, s *admin.Status) []concern {
	migrate := naming.Of(o).Advice("run outbox migrate")
	log := concern{What: "No worker can serve", Alarm: true}
	unserved, failing, dead := concern{What: "Without a worker", Alarm: true}, concern{What: "Failing", Alarm: true}, concern{What: "Dead letters", Alarm: true}
	blocked, paused, held := concern{What: "Behind a failed event of their key"}, concern{What: "Paused"}, concern{What: "Yet to settle old events"}
	breaker, full, keys := concern{What: "Breaker open", Alarm: true}, concern{What: "Full lanes", Alarm: true}, concern{What: "Held keys"}
	for _, c := range s.Concerns {
		name, page := c.Subscription, link("subscription", "name", c.Subscription)
		switch c.Kind {
		case admin.ConcernUnserved:
			unserved.add(name, page, num(c.Events)+" "+plural(c.Events, "waits", "wait"))
		case admin.ConcernBreaker:
			of := ""
			if len(c.Topics) > 0 {
				of = ", " + num(len(c.Topics)) + " " + plural(len(c.Topics), "topic", "topics")
			}
			breaker.add(name, page, "for "+span(s.At.Sub(*c.Since))+of)
		case admin.ConcernFull:
			full.add(name, page, num(c.Events)+" of 64")
		case admin.ConcernHeldKeys:
			keys.add(name, link("keys", "name", name), num(c.Events)+", the first for "+span(s.At.Sub(*c.Since)))
		case admin.ConcernFailing:
			failing.add(name, link("deadletters", "subscription", name, "state", "retrying"), "for "+span(s.At.Sub(*c.Since)))
		case admin.ConcernDead:
			dead.add(name, link("deadletters", "subscription", name), counted(c.Events))
		case admin.ConcernBlocked:
			blocked.add(name, page, counted(c.Events))
		case admin.ConcernForeign:
			log.add("Restored, replicated or upgraded", link("."), migrate)
		case admin.ConcernBehind:
			log.add("Sequences are behind", link("."), migrate)
		case admin.ConcernHolds:
			held.add(name, page, "from "+span(s.At.Sub(*c.Since))+" ago on")
		case admin.ConcernPaused:
			paused.add(name, page, "for "+span(s.At.Sub(*c.Since)))
		}
	}
	return slices.DeleteFunc([]concern{log, unserved, breaker, full, failing, dead, blocked, keys, held, paused}, func(c concern) bool { return len(c.About) == 0 })
}
