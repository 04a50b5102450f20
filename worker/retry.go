package worker

import (
	"math"
	"math/rand/v2"
	"time"
)

// Retry says how often, and after how long, an event is tried again. Its zero value has the defaults.
type Retry struct {
	// MaxAttempts is how many attempts are made at an event before it becomes a dead letter. May be Unlimited: then an event that kills
	// each worker it meets goes on doing so. Defaults to 20.
	MaxAttempts int
	// InitialInterval is the delay before the second attempt. Defaults to 1s.
	InitialInterval time.Duration
	// Multiplier is how much longer each delay is than the one before it. At least 1. Defaults to 2.
	Multiplier float64
	// MaxInterval is where delays stop growing. At least InitialInterval. Defaults to 5min, or InitialInterval if that is longer.
	MaxInterval time.Duration
	// Jitter is the part of each delay, up to 1, that is taken off at random, so that events which failed together do not come back
	// together. May be NoJitter. Defaults to 0.25.
	Jitter float64
	// Delay replaces all of the above but MaxAttempts: it is called with the number of attempts that have failed, from 1. It must be
	// safe for concurrent use. If it panics, the delay is as if there were none, and the failure says so. Defaults to exponential growth.
	Delay func(failed int) time.Duration
}

// NoJitter, as Retry.Jitter, takes nothing off delays. Any other negative value means the same.
const NoJitter = -1

// unlimitedAttempts is what is in place of an Unlimited MaxAttempts.
const unlimitedAttempts = math.MaxInt

// after returns the delay after so many failed attempts, without Delay.
func (r Retry) after(failed int) time.Duration {
	delay := min(float64(r.MaxInterval), float64(r.InitialInterval)*math.Pow(r.Multiplier, float64(failed-1)))
	return time.Duration(delay * (1 - r.Jitter*rand.Float64()))
}
