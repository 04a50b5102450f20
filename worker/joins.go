package worker

import "github.com/signalbox-go/signalbox/internal/engine"

// A joinPace paces reading by the lines that it feeds. After an outage, hundreds of keys have a line, and all that comes of these keys meanwhile joins it: were more
// read than is worked off, there would be ever more lines, until the whole log is in them.
type joinPace struct {
	part   float64 // of what is read, how much joins lines that go on
	claims float64 // how many deliveries a turn claims while there are more
}

const (
	// joinsOver is over about how many events the part is known: small windows say little.
	joinsOver = 64
	// claimsOver is over about how many turns the claims are.
	claimsOver = 4
)

// note takes how many events of a window have joined lines.
func (p *joinPace) note(joined, of int) {
	if of > 0 {
		p.part += (float64(joined)/float64(of) - p.part) * float64(of) / float64(of+joinsOver)
	}
}

// claimed takes how many deliveries a turn has claimed.
func (p *joinPace) claimed(n int) { p.claims += (float64(n) - p.claims) / claimsOver }

// fits is how many events may be read of so many, such that half as many join lines as a turn claims.
func (p *joinPace) fits(limit int) int {
	if p.part == 0 {
		return limit
	}
	return int(min(float64(limit), p.claims/(2*p.part)))
}

// readLimit is how many events the next window may have: one of each lane at least, unless more lines are due than are claimed.
func (r *runner) readLimit() int {
	limit := max(r.limit, engine.Lanes)
	if !r.backlog.crowded {
		return limit
	}
	least := 1
	if r.sub.many == nil {
		least = max(r.sub.Concurrency, engine.Lanes) // deliveries have hands of their own
	}
	return min(limit, max(least, r.joins.fits(limit)))
}
