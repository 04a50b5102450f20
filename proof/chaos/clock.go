package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// now reads the machine's monotonic clock: the same in every process on it, and never set back. Times of different
// processes can be compared, and it is not the clock that package time reads, which one of the workers has wrong.
func now() time.Duration { return readClock(unix.CLOCK_MONOTONIC) }

// wallOffset is what has to be taken from a time of the database, in Unix time, to get one of now.
func wallOffset() time.Duration { return readClock(unix.CLOCK_REALTIME) - now() }

func readClock(id int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		panic(err) // both clocks exist everywhere
	}
	return time.Duration(t.Nano())
}
