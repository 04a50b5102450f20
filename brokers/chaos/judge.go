package main

import (
	"fmt"
	"slices"
	"time"
)

// evidence is all that the judge gets.
type evidence struct {
	entries    []entry // of event number n at n-1
	reports    []report
	hits       []hit
	received   []received // in order by key
	dead       map[int64]string
	firstFault int64 // when it came, in ns
}

// What a signal excuses: what was answered shortly before it may not be recorded yet, and a process that wakes up may have no lanes any more and
// needs a moment to notice.
const (
	unrecorded = 2 * time.Second
	unnoticed  = lease
)

// An attempt is one of a relay to send a message.
type attempt struct {
	process   int
	begun     int64
	answered  int64 // 0 if never
	succeeded bool
}

// findings are the counts of a verdict.
type findings struct {
	Committed       int `json:"committed"`
	RolledBack      int `json:"rolled_back"`
	Poison          int `json:"poison"`
	Received        int `json:"received"`
	Lost            int `json:"lost"`
	Phantom         int `json:"phantom"`
	OrderViolations int `json:"order_violations"`
	Duplicates      int `json:"duplicates"`
	DuplicatesBound int `json:"duplicates_bound"`
	Groundless      int `json:"groundless_repeats"`
	DisorderedRuns  int `json:"disordered_repeats"`
	EarlyFailures   int `json:"failures_before_the_first_fault"`
	MissingDead     int `json:"missing_dead"`
	UnexpectedDead  int `json:"unexpected_dead"`
	problems        []string
}

// A judge compares what was committed with what was sent and what was received.
type judge struct {
	evidence
	findings
	numbers  map[string]int64 // of events, by id
	attempts map[int64][]attempt
	stored   map[int64]int // how often the broker has an event
}

func (f *findings) problem(count *int, format string, args ...any) {
	*count++
	f.problems = append(f.problems, fmt.Sprintf(format, args...))
}

func find(e evidence) findings {
	j := &judge{evidence: e, numbers: map[string]int64{}, attempts: map[int64][]attempt{}, stored: map[int64]int{}}
	for i, entry := range e.entries {
		if entry.id != "" {
			j.numbers[entry.id] = int64(i + 1)
		}
	}
	j.readAttempts()
	j.readReceived()
	for i := range e.entries {
		j.event(int64(i+1), &e.entries[i])
	}
	j.order()
	j.runs()
	known := map[int64]bool{}
	for _, entry := range e.entries {
		known[entry.inDatabase] = true
	}
	for id := range e.dead {
		if !known[id] {
			j.problem(&j.UnexpectedDead, "event %d of the database is a dead letter, and was never committed", id)
		}
	}
	return j.findings
}

func (j *judge) entry(number int64) *entry { return &j.entries[number-1] }

func (j *judge) readAttempts() {
	type sending struct {
		process int
		serial  int64
	}
	places := map[sending]int{} // of an attempt among those of its event
	for _, r := range j.reports {
		n := j.numbers[r.id]
		if n == 0 {
			j.problem(&j.Phantom, "%s was sent, and never published", r.id)
			continue
		}
		s := sending{r.process, r.serial}
		if r.what == begun {
			j.attempts[n] = append(j.attempts[n], attempt{process: r.process, begun: r.at})
			places[s] = len(j.attempts[n]) - 1
			continue
		}
		a := &j.attempts[n][places[s]]
		a.answered, a.succeeded = r.at, r.what == succeeded
		if !a.succeeded && r.at < j.firstFault && !j.entry(n).poison {
			j.problem(&j.EarlyFailures, "event %d failed before anything was done to anybody", n)
		}
	}
}

func (j *judge) readReceived() {
	j.Received = len(j.received)
	for _, m := range j.received {
		switch n := j.numbers[m.id]; {
		case n == 0 || !j.entry(n).committed:
			j.problem(&j.Phantom, "%s is stored, and was never committed", m.id)
		case n != m.number:
			j.problem(&j.Phantom, "%s is stored as event %d, and is event %d", m.id, m.number, n)
		default:
			j.stored[n]++
		}
	}
}

// event judges all but the order.
func (j *judge) event(n int64, e *entry) {
	reason, dead := j.dead[e.inDatabase]
	switch {
	case !e.committed:
		j.RolledBack++
		return
	case e.poison:
		j.Poison++
		if !dead || reason == "" {
			j.problem(&j.MissingDead, "event %d is too large, and no dead letter with a reason", n)
		}
		if j.stored[n] > 0 {
			j.problem(&j.Phantom, "event %d is too large, and stored", n)
		}
		j.Committed++
		return
	case dead:
		j.problem(&j.UnexpectedDead, "event %d is a dead letter: %s", n, reason)
	case j.stored[n] == 0:
		j.problem(&j.Lost, "event %d (key %q) is lost, of %d attempts", n, e.key, len(j.attempts[n]))
	}
	j.Committed++
	j.Duplicates += max(0, j.stored[n]-1)
	attempts := j.attempts[n]
	if j.stored[n] > len(attempts) {
		j.problem(&j.Groundless, "event %d is stored %d times, and was sent %d times", n, j.stored[n], len(attempts))
	}
	for i, a := range attempts {
		if !a.succeeded || j.excused(a) {
			j.DuplicatesBound++
			continue
		}
		for _, b := range attempts[i+1:] {
			if !j.wasHit(b.process, b.begun) { // else it is a zombie's
				j.problem(&j.Groundless, "event %d was acknowledged to process %d, which nothing had hit, and sent again by process %d", n, a.process, b.process)
			}
		}
	}
}

// excused reports whether the relay may not have recorded a success, or had given the attempt up by then.
func (j *judge) excused(a attempt) bool {
	if time.Duration(a.answered-a.begun) > attemptTimeout-attemptTimeout/10 {
		return true
	}
	return j.wasHit(a.process, a.answered)
}

// wasHit reports whether a relay was hit about then.
func (j *judge) wasHit(process int, at int64) bool {
	return slices.ContainsFunc(j.hits, func(h hit) bool {
		return h.process == process && at > h.at-int64(unrecorded) && at < h.at+int64(unnoticed)
	})
}

// order compares the first occurrences of each key with the order of publishing, which is that of the database's ids: a key has one publisher.
func (j *judge) order() {
	last := map[string]int64{}
	seen := map[int64]bool{}
	for _, m := range j.received {
		n := j.numbers[m.id]
		if n == 0 || seen[n] {
			continue
		}
		seen[n] = true
		e := j.entry(n)
		if e.key == "" {
			continue
		}
		if before := last[e.key]; before > n {
			j.problem(&j.OrderViolations, "event %d of key %q is stored behind event %d", n, e.key, before)
		}
		last[e.key] = max(last[e.key], n)
	}
}

// runs looks at what each relay has stored of each key: it goes back only after a failure there, or a stop.
func (j *judge) runs() {
	type line struct {
		process int
		key     string
	}
	grounds := map[line]int{}
	stops := map[int]int{} // by process
	for _, h := range j.hits {
		stops[h.process]++
	}
	for n, attempts := range j.attempts {
		for _, a := range attempts {
			if !a.succeeded {
				grounds[line{a.process, j.entry(n).key}]++
			}
		}
	}
	last, back := map[line]int64{}, map[line]int{}
	for _, m := range j.received {
		n := j.numbers[m.id]
		if n == 0 || j.entry(n).key == "" {
			continue
		}
		l := line{m.sender, j.entry(n).key}
		if n <= last[l] {
			// What was on its way over a connection that ended may come behind what was sent again: so a failure is good for two steps.
			if back[l]++; back[l] > 2*(grounds[l]+stops[l.process]) {
				j.problem(&j.DisorderedRuns, "event %d of key %q came from process %d behind event %d, and nothing had failed", n, l.key, l.process, last[l])
			}
		}
		last[l] = n
	}
}

const passed = "passed"

// A verdict is the last line of standard output.
type verdict struct {
	Verdict  string   `json:"verdict"`
	Failures []string `json:"failures"` // why it failed
	Sink     string   `json:"sink"`
	Seed     uint64   `json:"seed"`
	Minutes  float64  `json:"minutes"`
	findings
	DrainedMS      int64          `json:"drained_ms"`
	DrainedLimitMS int64          `json:"drained_limit_ms"`
	Faults         map[string]int `json:"faults"`
	Processes      int            `json:"relay_processes"`
}

// circumstances are what the judge does not need, and the verdict tells.
type circumstances struct {
	sink      string
	seed      uint64
	lasted    time.Duration
	drained   time.Duration // 0 when it never was
	faults    map[string]int
	processes int
	failures  []string // of processes
	say       func(format string, args ...any)
}

// reach comes to the verdict.
func reach(e evidence, c circumstances) *verdict {
	v := &verdict{
		Failures: append([]string{}, c.failures...), Sink: c.sink, Seed: c.seed, Minutes: float64(c.lasted.Milliseconds()/100) / 600, findings: find(e),
		DrainedMS: c.drained.Milliseconds(), DrainedLimitMS: drainLimit.Milliseconds(), Faults: c.faults, Processes: c.processes,
	}
	for _, count := range []struct {
		n    int
		what string
	}{
		{v.Lost, "committed events are lost"},
		{v.Phantom, "messages are stored or sent, and were not committed"},
		{v.OrderViolations, "events are stored behind a later one of their key"},
		{v.Groundless, "events were sent or stored again without a ground"},
		{v.DisorderedRuns, "events came again out of order"},
		{v.EarlyFailures, "attempts failed before the first fault"},
		{v.MissingDead, "poisons are no dead letters"},
		{v.UnexpectedDead, "events are dead letters, and need not be"},
		{max(0, v.Duplicates-v.DuplicatesBound), "duplicates are more than what was in flight"},
	} {
		if count.n > 0 {
			v.fail("%d %s", count.n, count.what)
		}
	}
	switch {
	case v.Committed == 0:
		v.fail("nothing was committed: this proves nothing")
	case c.drained == 0:
		v.fail("the lag did not come back to 0")
	case c.drained > drainLimit:
		v.fail("the lag was back to 0 after %v, later than %v", c.drained.Round(time.Millisecond), drainLimit)
	}
	const most = 20
	for i, p := range v.problems {
		if i == most {
			c.say("… and %d more", len(v.problems)-most)
			break
		}
		c.say("%s", p)
	}
	if v.Verdict = "failed"; len(v.Failures) == 0 {
		v.Verdict = passed
	}
	return v
}

func (v *verdict) fail(format string, args ...any) {
	v.Failures = append(v.Failures, fmt.Sprintf(format, args...))
}
