package reading

import (
	"fmt"

	"github.com/signalbox-go/signalbox/proof/model/explore"
)

// Checks lists what has to be explored: the protocol, and each broken one.
func Checks() []explore.Check {
	var checks []explore.Check
	add := func(broken Broken, size Size, what, breaks string, long bool) {
		checks = append(checks, explore.Check{
			Model:  "reading",
			Size:   fmt.Sprintf("%d transactions, events of each: %d, reads: %d", size.Publishers, size.Inserts, size.Reads),
			Broken: what, Breaks: breaks, Long: long,
			Run: func() explore.Result { return explore.Run(Spec(broken, size)) },
		})
	}
	small := Size{Publishers: 2, Inserts: 2, Reads: 2}
	add(Nothing, small, "", "", false)
	add(Nothing, Size{Publishers: 3, Inserts: 1, Reads: 2}, "", "", true)
	add(Nothing, Size{Publishers: 2, Inserts: 2, Reads: 3}, "", "", true)
	add(XipOnly, small, "pending is only what the snapshot lists as running", NotLost, false)
	add(IDFirst, small, "an event takes its id before its transaction has one", NotLost, false)
	add(CachedIDs, small, "the sequence caches ids", InOrder, false)
	add(EarlyXid, small, "a read takes its transaction id before its snapshot", NotLost, false)
	add(LateHead, small, "a read looks at the sequence after it has taken its transaction id", NotLost, false)
	add(HeadAhead, small, "a read takes the last id from the sequence's row", NotLost, false)
	return checks
}
