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
	fitting           // lines of the next claim
	from    time.Time // when there is one although something new waits
}

// lines is how many lines may be claimed that failed last time, of so many.
func (p *againPace) lines(most int, newWaits bool) int {
	if newWaits && time.Now().Before(p.from) {
		return 0
	}
	return p.most(most)
}

// rest has new events come first for a while, after what failed took so long.
func (p *againPace) rest(took time.Duration) { p.from = time.Now().Add((againPart - 1) * took) }

// fitting is how many of something the next claim takes: about as many as there was time for, or 0 for all there are. What it has no time for
// costs its row two changes.
type fitting int

func (f fitting) most(all int) int {
	if f > 0 {
		return min(int(f), all)
	}
	return all
}

// fit has the next claim take about as many as were begun of these.
func (f *fitting) fit(jobs []*job) {
	tried := countTried(jobs)
	switch {
	case tried < len(jobs):
		*f = fitting(max(1, tried))
	case *f > 0 && len(jobs) > 0:
		*f = min(dueAtOnce, *f+*f/4+1)
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
