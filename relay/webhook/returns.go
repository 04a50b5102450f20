package webhook

import (
	"math/rand/v2"
	"time"
)

const (
	// downGap is between two messages of an endpoint that come back while it is down, and restGap while it wants to be left alone.
	downGap, restGap = 100 * time.Millisecond, 20 * time.Millisecond
	// returnMost is how long a message stays away at most, whatever comes back before it.
	returnMost = 30 * time.Minute
)

// Returns has the messages of an endpoint come back one after the other. Each that comes back costs the database a claim and an update, in
// vain while the endpoint takes nothing: a hundred thousand that wait for one endpoint, and come back every half minute, would cost more
// than all that others have to do.
type returns struct {
	last time.Time // when the last one of them comes
}

// after returns how long a message stays away: for d, and until so long after the one before it, but no longer than most if that is more than d.
func (r *returns) after(now time.Time, d, gap, most time.Duration) time.Duration {
	at := now.Add(d)
	if behind := r.last.Add(gap); behind.After(at) {
		at = behind
	}
	if limit := max(d, most); at.Sub(now) > limit { // there are too many for one after the other
		r.last = now.Add(limit)
		return d + (limit-d)/2 + rand.N((limit-d)/2+1)
	}
	r.last = at
	return at.Sub(now)
}
