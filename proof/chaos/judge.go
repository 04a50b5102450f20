package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Evidence is all that the verdict rests on. Events have the numbers of the ledger.
type evidence struct {
	entries  []entry
	log      map[int64]bool              // events that are in the log
	reports  []report                    // in the order in which they were written
	effects  [len(subscriptions)][]int64 // what handlers in a transaction have left in the database, in the order of writing
	kept     [len(subscriptions)]map[int64]string
	sessions []session
	faults   []injected
	lease    time.Duration // of the workers
	slack    time.Duration // what a machine that is busy with something else may take on top of what an event may wait
}

// A session is one membership of a worker, from joining to the next.
type session struct {
	process int32
	from    time.Duration
	settled [len(subscriptions)]time.Duration // when its last window was recorded; 0 for none
}

// An injected fault.
type injected struct {
	kind     string
	from, to time.Duration
}

// Findings are the numbers of one subscription.
type findings struct {
	Form            form  `json:"form"`
	Committed       int   `json:"committed"` // that it has to see
	Delivered       int   `json:"delivered"` // of those, handled with success
	Dead            int   `json:"dead"`      // of those, kept as dead letters
	Skipped         int   `json:"skipped"`   // of those, kept as skipped
	UnexpectedDead  int   `json:"unexpected_dead"`
	Lost            int   `json:"lost"`
	Phantom         int   `json:"phantom"`
	Duplicates      int   `json:"duplicates"`
	DuplicatesBound int   `json:"duplicates_bound"`
	OrderViolations int   `json:"order_violations"`
	Mismatches      int   `json:"exactly_once_mismatches"`
	Calls           int   `json:"calls"`
	LongestStallMS  int64 `json:"longest_stall_ms"`
	SilentStalls    int   `json:"silent_stalls"` // events that one silent connection alone has held up for too long
	BurdenStalls    int   `json:"burden_stalls"` // events that others of another key alone have held up for too long

	stallFrom, stallTo time.Duration
	stallAfter         string // faults

	problems []problem
}

// A problem is an event of which something is wrong.
type problem struct {
	subscription int
	number       int64
	what         string
}

// A judge compares what was promised to what was done.
type judge struct {
	evidence
	after [][]int64 // by key: the events known to be committed, in the order of their publication
}

func newJudge(e evidence) *judge {
	j := &judge{evidence: e}
	for i := range j.entries {
		if k := int(j.entries[i].key); k != noKey && j.entries[i].outcome == committed {
			for len(j.after) <= k {
				j.after = append(j.after, nil)
			}
			j.after[k] = append(j.after[k], int64(i+1))
		}
	}
	for _, list := range j.after {
		slices.SortFunc(list, func(a, b int64) int { return cmp.Compare(j.entries[a-1].seq, j.entries[b-1].seq) })
	}
	return j
}

// isCommitted says what is the truth about an event. Where the publisher got no answer, the log has it.
func (j *judge) isCommitted(number int64) bool {
	if number < 1 || number > int64(len(j.entries)) {
		return false
	}
	switch j.entries[number-1].outcome {
	case committed:
		return true
	case unknown:
		return j.log[number]
	}
	return false
}

// logged compares the log to the publishers' ledger, before anybody has read it.
func (j *judge) logged() (missing, phantom []int64) {
	for i := range j.entries {
		n := int64(i + 1)
		switch o := j.entries[i].outcome; {
		case o == committed && !j.log[n]:
			missing = append(missing, n)
		case (o == rolledBack || o == open) && j.log[n]:
			phantom = append(phantom, n)
		}
	}
	for n := range j.log {
		if n < 1 || n > int64(len(j.entries)) {
			phantom = append(phantom, n)
		}
	}
	return missing, phantom
}

// subscription judges one.
func (j *judge) subscription(s int) *findings {
	f := &findings{Form: subscriptions[s].form}
	successes := j.successes(s)
	times := make(map[int64]int, len(successes))
	for _, n := range successes {
		times[n]++
	}
	j.deliveries(s, f, times)
	j.phantoms(s, f, times)
	j.order(s, f, successes, times)
	j.stalls(s, f)
	if !subscriptions[s].inTx() {
		f.DuplicatesBound = j.unrecorded(s)
	}
	return f
}

// successes lists the events that were handled with success, as often as they were, in order. In a transaction, success is what
// stays in the database; elsewhere it is what the handler did.
func (j *judge) successes(s int) []int64 {
	if subscriptions[s].inTx() {
		return j.effects[s]
	}
	var list []int64
	for i := range j.reports {
		if r := &j.reports[i]; int(r.subscription) == s && r.what == succeeded {
			list = append(list, r.number)
		}
	}
	return list
}

// deliveries looks at every event that should have come.
func (j *judge) deliveries(s int, f *findings, times map[int64]int) {
	for i := range j.entries {
		n, e := int64(i+1), &j.entries[i]
		if !j.isCommitted(n) || !subscriptions[s].wants(e.topic) {
			continue
		}
		f.Committed++
		state, count := j.kept[s][n], times[n]
		switch state {
		case "dead":
			f.Dead++
		case "skipped":
			f.Skipped++
		}
		if state == "dead" && (!subscriptions[s].flaky || !e.act.fatal()) {
			f.UnexpectedDead++
			if !subscriptions[s].flaky { // there, one that ran beside a killer as often as attempts are allowed may be dead, too
				f.note(s, n, "is a dead letter, and its handler never failed")
			}
		}
		if count > 0 {
			f.Delivered++
		}
		if count == 0 && state == "" {
			f.Lost++
			f.note(s, n, "is lost")
		}
		if subscriptions[s].inTx() {
			want := 1
			if state != "" { // it failed for good: what it did must be undone
				want = 0
			}
			if count != want {
				f.Mismatches++
				f.note(s, n, fmt.Sprintf("has taken effect %d times", count))
			}
		} else if count > 1 {
			f.Duplicates += count - 1
		}
	}
}

// phantoms looks for events that were never committed, or are none of this subscription's.
func (j *judge) phantoms(s int, f *findings, times map[int64]int) {
	seen := map[int64]bool{}
	check := func(n int64) {
		if !seen[n] && (!j.isCommitted(n) || !subscriptions[s].wants(j.entries[n-1].topic)) {
			seen[n] = true
			f.Phantom++
			f.note(s, n, "is a phantom: it was handled, and not committed for this subscription")
			if subscriptions[s].inTx() && times[n] > 0 {
				f.Mismatches++
			}
		}
	}
	for i := range j.reports {
		if r := &j.reports[i]; int(r.subscription) == s {
			f.Calls++
			check(r.number)
		}
	}
	for n := range times {
		check(n)
	}
	for n := range j.kept[s] {
		check(n)
	}
}

// order checks that no event was handled before an earlier one of its key, known to be committed when it was published, had been.
// Those that are kept do not count: what is behind a dead letter goes on.
func (j *judge) order(s int, f *findings, successes []int64, times map[int64]int) {
	due := make([]int, len(j.after)) // by key: the first of after that was not handled yet
	done := make(map[int64]bool, len(times))
	for _, n := range successes {
		if n < 1 || n > int64(len(j.entries)) || done[n] {
			continue
		}
		done[n] = true
		e := &j.entries[n-1]
		if e.key == noKey || int(e.key) >= len(j.after) {
			continue
		}
		line := j.after[e.key]
		for due[e.key] < len(line) {
			head := line[due[e.key]]
			if !done[head] && times[head] > 0 && j.kept[s][head] == "" && subscriptions[s].wants(j.entries[head-1].topic) {
				break
			}
			due[e.key]++
		}
		if due[e.key] == len(line) {
			continue
		}
		if head := line[due[e.key]]; j.entries[head-1].seq < e.seq {
			f.OrderViolations++
			f.note(s, n, fmt.Sprintf("was handled before event %d of its key, which had been committed when it was published", head))
		}
	}
}

// stalls finds the longest time from an acknowledged commit to the first call of a handler. Where handlers fail, events wait
// for each other by design.
func (j *judge) stalls(s int, f *findings) {
	if subscriptions[s].flaky {
		return
	}
	first := make(map[int64]time.Duration, len(j.entries))
	for i := range j.reports {
		r := &j.reports[i]
		if _, seen := first[r.number]; !seen && int(r.subscription) == s {
			first[r.number] = r.began
		}
	}
	var longest, from, to time.Duration
	for n, at := range first {
		if n < 1 || n > int64(len(j.entries)) {
			continue
		}
		e := &j.entries[n-1]
		if waited := at - e.ended; e.outcome == committed && waited > longest {
			longest, from, to = waited, e.ended, at
		}
		// A handler's own transaction may wait for as long as the handler may take.
		if waited := at - e.ended; e.outcome == committed && waited > j.lease+aftermath+j.slack && !subscriptions[s].inTx() &&
			j.faultsBetween(e.ended, at) == silentConnection {
			f.SilentStalls++
			f.note(s, n, fmt.Sprintf("waited for %v, and nothing but one silent connection was the reason", waited.Round(time.Millisecond)))
		}
		if waited := at - e.ended; e.outcome == committed && waited > burdenLimit+j.slack && !e.act.burdens() {
			switch kind := j.faultsBetween(e.ended, at); kind {
			case hotKey, lateGiant, deadEndpoint:
				f.BurdenStalls++
				f.note(s, n, fmt.Sprintf("waited for %v, and nothing but other keys was the reason: %s", waited.Round(time.Millisecond), kind))
			}
		}
	}
	f.LongestStallMS, f.stallFrom, f.stallTo = longest.Milliseconds(), from, to
	f.stallAfter = j.faultsBetween(from, to)
}

// burdenLimit is how long an event may wait while only events of other keys are slow, fail, or are many: twice the time of a window, and
// as much again for a machine that is busy.
const burdenLimit = 4 * time.Second

// aftermath is how long a fault may still be what somebody waits for: connections have to be made again, and lanes taken
// over.
const aftermath = 5 * time.Second

func (j *judge) faultsBetween(from, to time.Duration) string {
	var kinds []string
	for _, fault := range j.faults {
		if fault.from <= to && fault.to+aftermath >= from && !slices.Contains(kinds, fault.kind) {
			kinds = append(kinds, fault.kind)
		}
	}
	return strings.Join(kinds, " + ")
}

// parkedSlack is for handlers that took longer than their windows wait. Their successes are recorded by themselves, so the next
// window may be recorded before them. They count as unrecorded unless a later one was.
const parkedSlack = time.Second

// unrecorded counts the successes that were not recorded when their session ended. Only those may be repeated, each once: the
// repeat is recorded, or counted here in its turn.
func (j *judge) unrecorded(s int) (n int) {
	byProcess := map[int32][]session{}
	for _, one := range j.sessions {
		byProcess[one.process] = append(byProcess[one.process], one)
	}
	for _, list := range byProcess {
		slices.SortFunc(list, func(a, b session) int { return cmp.Compare(a.from, b.from) })
	}
	for i := range j.reports {
		r := &j.reports[i]
		if int(r.subscription) != s || r.what != succeeded {
			continue
		}
		done := r.at
		if r.at-r.began >= subscriptions[s].parkAfter {
			done += parkedSlack
		}
		// The session that called the handler; it may have ended before that returned.
		list := byProcess[r.process]
		k, _ := slices.BinarySearchFunc(list, r.began, func(one session, at time.Duration) int { return cmp.Compare(one.from, at) })
		if k == 0 || list[k-1].settled[s] < done {
			n++
		}
	}
	return n
}

func (f *findings) note(s int, number int64, what string) {
	f.problems = append(f.problems, problem{s, number, what})
}
