package lanes

import (
	"fmt"

	"github.com/signalbox-go/signalbox/proof/model/explore"
)

// Checks lists what has to be explored: the protocol, and each broken one.
func Checks() []explore.Check {
	var checks []explore.Check
	add := func(broken Broken, size Size, what, breaks string, long bool) {
		checks = append(checks, explore.Check{
			Model: "lanes",
			Size: fmt.Sprintf("%d sessions, 2 at once, %d lanes, %d events, faults: %d, failed or parked: %d, releases: %d",
				sessions, lanes, events, size.Faults, size.Slips, size.Releases),
			Broken: what, Breaks: breaks, Long: long,
			Run: func() explore.Result { return explore.Run(Spec(broken, size)) },
		})
	}
	small := Size{Faults: 1, Slips: 1, Releases: 2}
	add(Nothing, Size{Faults: 1, Releases: 1}, "", "", false)
	add(Nothing, Size{Faults: 1, Slips: 1, Releases: 1}, "", "", true)
	add(Nothing, Size{Faults: 2, Slips: 1}, "", "", true)
	add(NoFence, small, "no fence", InStep, false)
	add(NoFold, small, "an eviction does not fold the progress", InStep, false)
	add(OneStatement, small, "an eviction folds in the statement that deletes, with its snapshot", InStep, false)
	add(NoClaimRow, small, "a claim appends no progress row", InStep, false)
	add(SettleEarly, small, "a window is settled before its handlers return", InStep, false)
	add(RowsFirst, small, "deliveries are settled before the cursor, in a transaction of their own", InStep, false)
	add(KeepRows, small, "an eviction leaves the dead worker's deliveries", NoOrphan, false)
	add(NoSuspects, small, "an eviction does not mark its lanes as suspect", Noted, false)
	add(IgnoreSuspects, small, "a claim does not ask whether lanes are suspect", Noted, false)
	return checks
}
