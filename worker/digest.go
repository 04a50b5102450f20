package worker

import "time"

// digestEvery is the shortest time between two lines about failures.
const digestEvery = time.Second

// A digest keeps lines about failures to one a second, however many fail: the first is written at once, and of those that come before the
// second is over the last one, with how many others there were. The zero value is ready.
type digest struct {
	next   time.Time        // when another line may be written
	last   func(others int) // writes the last line that was kept back; nil when there is none
	others int              // that were kept back before it
}

// add takes a line, and writes it now or later.
func (d *digest) add(now time.Time, line func(others int)) {
	if d.last != nil {
		d.others++
	}
	d.last = line
	d.flush(now)
}

// flush writes what was kept back, if it is time.
func (d *digest) flush(now time.Time) {
	if d.last == nil || now.Before(d.next) {
		return
	}
	d.last(d.others)
	*d = digest{next: now.Add(digestEvery)}
}

// flushFailures writes the lines about failures that are due or, at the end, all there are.
func (r *runner) flushFailures(end bool) {
	now := time.Now()
	for _, d := range []*digest{&r.warned, &r.erred} {
		if end {
			d.next = time.Time{}
		}
		d.flush(now)
	}
}

// nextFailures is when there is a line about failures to write, or false while there is none.
func (r *runner) nextFailures() (next time.Time, ok bool) {
	for _, d := range []*digest{&r.warned, &r.erred} {
		if d.last != nil && (!ok || d.next.Before(next)) {
			next, ok = d.next, true
		}
	}
	return next, ok
}
