package worker

import (
	"math"
	"time"
)

// Retry says how often and when an event is tried again. Its zero value means the defaults.
type Retry struct {
	// MaxAttempts is how many attempts at an event are made before it becomes a dead letter. May be Unlimited; then an event that
	// crashes each worker that handles it continues to do so. Defaults to 100.
	MaxAttempts int

	// InitialInterval is the delay before the second attempt. Defaults to 1s.
	InitialInterval time.Duration

	// Multiplier is the factor from each delay to the next. At least 1. Defaults to 2.
	Multiplier float64

	// MaxInterval is the longest delay, before jitter. At least InitialInterval. Defaults to 1h, or InitialInterval if that is longer.
	MaxInterval time.Duration

	// Jitter is the largest fraction of a delay that is subtracted at random, so that events that failed together are not tried again
	// together. At most 1; NoJitter subtracts nothing. Defaults to 0.25.
	Jitter float64

	// Delay replaces all of the above but MaxAttempts: it returns the delay after the given number of failed attempts, from 1. It must be
	// safe for concurrent use. If it panics, the other fields determine the delay, and the recorded failure says so. A negative delay
	// is 0. Defaults to nil.
	Delay func(failed int) time.Duration
}

// NoJitter is the value of Retry.Jitter that keeps delays as they are. Any negative value means the same.
const NoJitter = -1

// unlimitedAttempts is what is in place of an Unlimited MaxAttempts.
const unlimitedAttempts = math.MaxInt

// forOthers returns the delay of an event that this worker does not know. No attempt is counted, so the delay doubles with the event's age.
func (r Retry) forOthers(age time.Duration, chance float64) time.Duration {
	delay := min(r.MaxInterval, max(r.InitialInterval, age))
	return time.Duration(float64(delay) * (1 - r.Jitter*chance))
}

// after returns the delay after so many failed attempts, without Delay. Which part of the jitter it has is by chance, from 0 to 1.
func (r Retry) after(failed int, chance float64) time.Duration {
	delay := min(float64(r.MaxInterval), float64(r.InitialInterval)*math.Pow(r.Multiplier, float64(failed-1)))
	return time.Duration(delay * (1 - r.Jitter*chance))
}
