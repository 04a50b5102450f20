package admin

import (
	"context"
	"time"
)

// Bulk work goes in chunks, each a transaction of its own, with pauses: what is new has the server to itself in between.
const (
	bulkChunk       = 5000
	chunksPerSecond = 5 // at a rate, so that it is even
	chunkTimeout    = time.Minute
	chunkGrace      = 5 * time.Second // after the caller's context has ended
)

// A pace says how many to take in a chunk, and how long to pause after it.
type pace struct {
	rate  int // a second; 0 for half of the time
	begun time.Time
}

func (p pace) limit() int {
	if p.rate == 0 {
		return bulkChunk
	}
	return max(1, min(bulkChunk, p.rate/chunksPerSecond))
}

// pause is how long to wait at a moment when total were taken, and the last chunk took so long. Without a rate, it is as long: the latency
// of new events is worth more than the end of a replay.
func (p pace) pause(now time.Time, total int64, chunk time.Duration) time.Duration {
	if p.rate == 0 {
		return chunk
	}
	return max(0, time.Duration(float64(total)/float64(p.rate)*float64(time.Second))-now.Sub(p.begun))
}

// whole returns a context for one chunk, which outlives ctx by a grace: a chunk that was cut off may have happened or not.
func whole(ctx context.Context) (context.Context, context.CancelFunc) {
	chunk, cancel := context.WithTimeout(context.WithoutCancel(ctx), chunkTimeout)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(chunkGrace, cancel) })
	return chunk, func() {
		stop()
		cancel()
	}
}

// wait waits, but not for longer than ctx, and returns its error.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return ctx.Err() // should both have happened
	}
}
