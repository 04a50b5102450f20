package doorbell

import (
	"fmt"

	"github.com/signalbox-go/signalbox/proof/model/explore"
)

// Checks lists what has to be explored: the protocol, and each broken one.
func Checks() []explore.Check {
	var checks []explore.Check
	add := func(broken Broken, size Size, what, breaks string, long bool) {
		checks = append(checks, explore.Check{
			Model: "doorbell",
			Size: fmt.Sprintf("publishers: %d, transactions of each: %d, %d sentinels, %d workers, faults: %d",
				size.Publishers, size.Transactions, sentinels, workers, size.Faults),
			Broken: what, Breaks: breaks, Long: long,
			Run: func() explore.Result { return explore.Run(Spec(broken, size)) },
		})
	}
	small := Size{Publishers: 2, Transactions: 1}
	add(Nothing, small, "", "", false)
	add(Nothing, Size{Publishers: 1, Transactions: 1, Faults: 1}, "", "", false)
	add(Nothing, Size{Publishers: 2, Transactions: 2}, "", "", true)
	add(Nothing, Size{Publishers: 2, Transactions: 1, Faults: 1}, "", "", true)
	add(Nothing, Size{Publishers: 1, Transactions: 2, Faults: 2}, "", "", true)
	add(FlagInTable, small, "a flag in a table instead of a lock", AllRead, false)
	add(NoWait, small, "the bell is armed without waiting for those that share its lock", AllRead, false)
	add(NoLastProbe, small, "no look after the bell is armed", AllRead, false)
	add(LookAfterUnlock, small, "the look that disarms the bell comes after the unlock", AllRead, false)
	add(SilentTakeover, small, "a new sentinel wakes nobody", AllRead, false)
	add(RingBeforeBaseline, small, "a new sentinel wakes everybody before its first look", AllRead, false)
	add(ForgetWhileReading, small, "a worker sleeps after a read that began before the last wake-up", AllRead, false)
	add(ListenAfterRead, small, "a worker listens after its first read", AllRead, false)
	add(KeepLateGrant, small, "after a timeout, the lock is taken not to be held", Spared, false)
	add(WaitingPublisher, small, "publishers wait for the lock", NoBlock, false)
	add(UnlockBeforeVisible, small, "PostgreSQL unlocks before a commit can be seen", AllRead, false)
	return checks
}
