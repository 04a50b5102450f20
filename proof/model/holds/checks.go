package holds

import (
	"fmt"

	"github.com/signalbox-go/signalbox/proof/model/explore"
)

// Checks lists what has to be explored: the protocol, and each broken one.
func Checks() []explore.Check {
	var checks []explore.Check
	add := func(broken Broken, size Size, what, breaks string, long bool) {
		checks = append(checks, explore.Check{
			Model:  "holds",
			Size:   fmt.Sprintf("%d events of a key, replays: %d, deaths: %d, openings: %d", size.Events, size.Replays, size.Crashes, size.Opens),
			Broken: what, Breaks: breaks, Long: long,
			Run: func() explore.Result { return explore.Run(Spec(broken, size)) },
		})
	}
	small, away := Size{Events: 4, Replays: 1, Crashes: 1}, Size{Events: 4, Crashes: 1, Opens: 2}
	add(Nothing, small, "", "", false)
	add(Nothing, away, "", "", false)
	add(Nothing, Size{Events: 5}, "", "", true) // with replays and deaths, these would be more states than fit
	add(HoldFromLate, small, "a late event begins a hold", Once, false)
	add(HoldBelow, away, "a hold begins below a delivery of its own window", InOrder, false)
	add(LeaveLate, small, "a late event below the hold is left to it", NotLost, false)
	add(DecideWhenRead, small, "a window is decided by the hold that there was when it was read", NotLost, false)
	add(RefillPending, small, "a refill takes what the cursor waits for", Once, false)
	add(RefillAhead, small, "a refill ends at the cursor of a window that is not decided", Once, false)
	add(DropEarly, small, "a hold ends with its line", NotLost, false)
	add(ForgetHold, small, "a held key without a delivery is taken for free", InOrder, false)
	add(DeleteHeld, small, "retention deletes what is held", NotLost, false)
	add(ReplayHeld, small, "a replay takes what is held", InOrder, false)
	add(DeleteCopy, small, "retention deletes what a delivery has no copy of", NotLost, false)
	add(PassTopic, away, "a key is free for other topics while its line waits for one", InOrder, false)
	add(SkipTopic, away, "what is behind a delivery that waits for its topic is handled", InOrder, false)
	add(DropTopic, away, "events of a topic that is away are passed without a row", NotLost, false)
	return checks
}
