package worker

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/signalbox-go/signalbox/internal/engine"
)

// A pacer keeps a subscription to its rate. A worker's share of it is that of its lanes, and lanes that it claims bring no burst, so the
// whole fleet stays below the rate, whoever owns what. It is a mean: few hot keys, which are in few lanes, get less.
type pacer struct {
	*rate.Limiter // nil where there is no limit
	rate          float64
	burst         int
}

func newPacer(perSecond float64, burst int) pacer {
	p := pacer{rate: perSecond, burst: burst}
	if perSecond > 0 {
		p.Limiter = rate.NewLimiter(0, 0) // no lanes yet
	}
	return p
}

// share sets how many lanes the worker owns.
func (p pacer) share(lanes int) {
	if p.Limiter == nil {
		return
	}
	part := float64(lanes) / engine.Lanes
	p.SetLimit(rate.Limit(p.rate * part))
	p.SetBurst(max(min(lanes, 1), int(float64(p.burst)*part)))
}

// admit waits until n attempts may begin, if that is before the end. The context of an attempt begins after that.
func (p pacer) admit(ctx context.Context, n int, end time.Time) bool {
	if p.Limiter == nil {
		return true
	}
	for n > 0 {
		some := min(n, max(1, p.Burst()))
		if !p.admitSome(ctx, some, end) {
			return false
		}
		n -= some
	}
	return true
}

func (p pacer) admitSome(ctx context.Context, n int, end time.Time) bool {
	now := time.Now()
	r := p.ReserveN(now, n)
	if !r.OK() {
		return false
	}
	wait := r.DelayFrom(now)
	if wait == 0 {
		return true
	}
	if now.Add(wait).After(end) {
		r.CancelAt(now)
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		r.Cancel()
		return false
	}
}

// wait is how long it takes until an attempt may begin.
func (p pacer) wait() time.Duration {
	if p.Limiter == nil || p.Limit() <= 0 {
		return time.Hour
	}
	return max(time.Millisecond, time.Duration(max(0, 1-p.Tokens())/float64(p.Limit())*float64(time.Second)))
}

// room is how many attempts may begin right now, at most limit.
func (p pacer) room(limit int) int {
	if p.Limiter == nil {
		return limit
	}
	return max(0, min(limit, int(p.Tokens())))
}

// fits is how many events a window may have so that they begin within its time.
func (p pacer) fits(limit int) int {
	if p.Limiter == nil {
		return limit
	}
	return max(1, min(limit, int(float64(p.Limit())*(windowTime/windowPart).Seconds())))
}
