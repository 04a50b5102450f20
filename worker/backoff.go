package worker

import (
	"math"
	"math/rand/v2"
	"time"
)

// Retry says how often, and after how long, an event is tried again. Its zero value has the defaults.
type Retry struct {
	// Attempts is how many are made at an event before it becomes a dead letter. Defaults to 20.
	Attempts int
	// First is the delay before the second attempt. Defaults to 1s.
	First time.Duration
	// Factor is how much longer each delay is than the one before it. At least 1. Defaults to 2.
	Factor float64
	// Longest is where delays stop growing. At least First. Defaults to 5min, or First if that is longer.
	Longest time.Duration
	// Jitter is the part of each delay, from 0 to 1, that is taken off at random, so that events which failed together
	// do not come back together. Negative for none. Defaults to 0.25.
	Jitter float64
	// Delay replaces all of the above but Attempts: it is called with the number of attempts that have failed, from 1. It must be
	// safe for concurrent use. If it panics, the delay is as if there were none, and the failure says so. Defaults to exponential growth.
	Delay func(failed int) time.Duration
}

// after returns the delay after so many failed attempts, without Delay.
func (r Retry) after(failed int) time.Duration {
	delay := min(float64(r.Longest), float64(r.First)*math.Pow(r.Factor, float64(failed-1)))
	return time.Duration(delay * (1 - r.Jitter*rand.Float64()))
}
