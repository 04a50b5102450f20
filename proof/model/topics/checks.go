package topics

import (
	"fmt"

	"github.com/signalbox-go/signalbox/proof/model/explore"
)

// Checks lists what has to be explored: the protocol, and each broken one.
func Checks() []explore.Check {
	var checks []explore.Check
	add := func(broken Broken, size Size, what, breaks string, long bool) {
		checks = append(checks, explore.Check{
			Model:  "topics",
			Size:   fmt.Sprintf("%d events, %d workers, changes: %d, deaths: %d", events, workers, size.Changes, size.Deaths),
			Broken: what, Breaks: breaks, Long: long,
			Run: func() explore.Result { return explore.Run(Spec(broken, size)) },
		})
	}
	small := Size{Changes: 2, Deaths: 1}
	add(Nothing, small, "", "", false)
	add(Nothing, Size{Changes: 3, Deaths: 2}, "", "", true)
	add(ChangeOwned, small, "topics change while a worker owns the lane", AsPromised, false)
	add(LookOnce, small, "a claim does not look at the topics again", AsPromised, false)
	add(NoRejoin, small, "workers read on with the topics that they joined with", AsPromised, false)
	add(UnknownServes, small, "workers serve topics that they do not know", Known, false)
	add(BackfillLate, small, "a back-fill takes what the cursor still waits for", Once, false)
	return checks
}
