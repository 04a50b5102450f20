package worker

import (
	"math/rand/v2"
	"time"
)

const (
	firstDelay   = time.Second
	longestDelay = 5 * time.Minute
)

// defaultBackoff doubles from firstDelay to longestDelay. Jitter keeps events that failed together from coming back
// together.
func defaultBackoff(failed int) time.Duration {
	delay := longestDelay
	if doublings := failed - 1; doublings < 10 {
		delay = min(longestDelay, firstDelay<<max(0, doublings))
	}
	return delay - rand.N(delay/4)
}
