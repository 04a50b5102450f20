package difference

import (
	"fmt"

	"github.com/signalbox-go/signalbox/proof/model/explore"
)

// Checks lists what has to be explored: the protocol, and each broken one.
func Checks() []explore.Check {
	var checks []explore.Check
	add := func(broken Broken, size Size, what, breaks string, long bool) {
		checks = append(checks, explore.Check{
			Model:  "difference",
			Size:   fmt.Sprintf("%d transactions, %d members, reads: %d", size.Publishers, members, size.Reads),
			Broken: what, Breaks: breaks, Long: long,
			Run: func() explore.Result { return explore.Run(Spec(broken, size)) },
		})
	}
	add(Nothing, Size{2, 3}, "", "", false)
	add(Nothing, Size{2, 4}, "", "", true)
	add(Nothing, Size{3, 3}, "", "", true)
	add(GivenSeen, Size{2, 3}, "a member is given what its own snapshot had seen", Once, false)
	add(XmaxAlone, Size{2, 4}, "snapshots are ordered by xmax alone", NotLost, false)
	add(FullLoses, Size{2, 3}, "a member without room loses its window", NotLost, false)
	add(CutStands, Size{2, 3}, "a member whose read was cut reads together with others", NotLost, false)
	add(KeepsSnapshot, Size{2, 3}, "a window is put back, and its snapshot is not", NotLost, false)
	add(IDsAlone, Size{2, 3}, "a member takes what was read at the same id, whatever its own cursor waits for", Once, false)
	return checks
}
