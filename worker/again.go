package worker

import "time"

const (
	// againTime is how long what failed may take in a turn while something new waits; againCalls the same where it is called in batches, which
	// last as long as a window.
	againTime, againCalls = 5 * time.Millisecond, windowTime / windowPart
	// againPart is which part of the time is for what failed while there is always something new.
	againPart = 10
)

// An againPace paces what failed where it is tried in the turns of windows, in transactions and batches: there, all that is new waits for it.
// A thousand keys that fail would else take their time from all others with each turn. While nothing new waits, it has all the time.
type againPace struct {
	limit int       // lines of the next claim; 0 for all that are due
	from  time.Time // when there is one although something new waits
}

// lines is how many lines may be claimed that failed last time, of so many.
func (p *againPace) lines(most int, newWaits bool) int {
	switch {
	case newWaits && time.Now().Before(p.from):
		return 0
	case p.limit > 0:
		return min(p.limit, most)
	}
	return most
}

// rest has new events come first for a while, after what failed took so long.
func (p *againPace) rest(took time.Duration) { p.from = time.Now().Add((againPart - 1) * took) }

// fit has the next claim take about as many as there was time for: what it has none for costs its row two changes.
func (p *againPace) fit(jobs []*job) {
	tried := countTried(jobs)
	switch {
	case tried < len(jobs):
		p.limit = max(1, tried)
	case p.limit > 0:
		p.limit = min(dueAtOnce, p.limit+p.limit/4+1)
	}
}

// countTried is how many jobs were begun.
func countTried(jobs []*job) int {
	tried := 0
	for _, j := range jobs {
		if !j.behind {
			tried++
		}
	}
	return tried
}

// againIsOver reports whether what failed, which began at a time, leaves the rest of the turn to what is new. While the breaker is open,
// it is a probe: those are small, and tried as a whole.
func (r *runner) againIsOver(begun time.Time) bool {
	most := againCalls
	if r.sub.tx {
		most = againTime
	}
	return time.Since(begun) >= most && !r.breaker.open() && (len(r.window.Events) > 0 || r.othersWait())
}
