package engine

import (
	"math"
	"slices"
)

// A cursor says how far some lanes of a subscription have been read.
//
// The invariant: every committed event of a lane whose id is at most the lane's after is settled, except those of the
// transactions in pending, and those of the transactions in late whose id is above lateAfter.
//
// Ids are taken before commit, so a transaction that took a low id may commit after one that took a high id: what a
// read passed and could not see yet is what pending remembers. See docs/design.md for the proof.
//
// A cursor is a value: advance returns new ones and leaves the old alone, so a settle can write the one of the read
// whose events are all handled while the next read is under way.
type cursor struct {
	lanes []int16
	after []int64 // of each lane

	// pending holds transactions that were running when the lanes were read.
	pending xids

	// late holds transactions that were pending and have committed, with more events below after than fit in a window.
	// While there are any, the lanes take nothing new, so that order by key holds.
	late      xids
	lateAfter int64
}

// A reading is what one read statement, with one snapshot, found out beside the events themselves.
type reading struct {
	snapshot snapshot
	head     int64 // the id sequence's last value, read before next
	next     int64 // a transaction id assigned after the snapshot was taken and head was read; 0 when nothing is beyond the cursors

	lateCut int64 // late events from this id on were not read; 0 when there were no more

	// stopped has the lanes that were not read to their end, with the last id that was read of each.
	stopped map[int16]int64
}

// everything is beyond any transaction id.
const everything = math.MaxInt64

// catchingUp reports whether late events are read in several windows.
func catchingUp(cursors []cursor) bool {
	return slices.ContainsFunc(cursors, func(c cursor) bool { return len(c.late) > 0 })
}

// advance returns the cursors after everything that r found was handled. The read must have covered all cursors.
func advance(cursors []cursor, r reading) []cursor {
	switch {
	case catchingUp(cursors):
		// Only late events were read: nothing is known about the rest.
		next := slices.Clone(cursors)
		for i := range next {
			c := &next[i]
			if len(c.late) == 0 {
				continue
			}
			if c.lateAfter = max(c.lateAfter, r.lateCut-1); r.lateCut == 0 {
				c.late, c.lateAfter = nil, 0
			}
		}
		return next

	case r.lateCut != 0:
		// Those whose late events were read up to the cut have ended, so their set of events is final.
		next := slices.Clone(cursors)
		for i := range next {
			c := &next[i]
			unseen := r.snapshot.unseen(everything)
			if ended := c.pending.without(unseen); len(ended) > 0 {
				c.late, c.lateAfter = ended, r.lateCut-1
			}
			c.pending = c.pending.both(unseen)
		}
		return next

	case r.next == 0:
		// Nothing moved: what is still pending is what the snapshot does not see. No transaction id is needed for that,
		// so that idle workers use none up.
		next := slices.Clone(cursors)
		for i := range next {
			next[i].pending = next[i].pending.both(r.snapshot.unseen(everything))
		}
		return next
	}

	// A lane that was read to its end has passed every id up to head; another one the last id that was read. What was
	// passed and not seen took its transaction id before its id, hence before next: it is unseen(next). This holds for
	// all lanes alike, so from here on they share one cursor.
	merged := cursor{pending: r.snapshot.unseen(r.next)}
	for _, c := range cursors {
		merged.lanes = append(merged.lanes, c.lanes...)
		for i, lane := range c.lanes {
			after, stopped := r.stopped[lane]
			if !stopped {
				after = r.head
			}
			merged.after = append(merged.after, max(after, c.after[i]))
		}
	}
	return []cursor{merged}
}

// joined returns cursors in which lanes share one that wait for the same.
func joined(cursors []cursor) []cursor {
	var all []cursor
	for _, c := range cursors {
		i := slices.IndexFunc(all, func(o cursor) bool {
			return o.pending.equal(c.pending) && o.late.equal(c.late) && o.lateAfter == c.lateAfter
		})
		if i < 0 {
			all = append(all, c)
			continue
		}
		all[i].lanes = slices.Concat(all[i].lanes, c.lanes)
		all[i].after = slices.Concat(all[i].after, c.after)
	}
	return all
}

// unread reports whether a read could find anything, given what a later statement saw: also that the head is behind a cursor.
func unread(cursors []cursor, s snapshot, head int64, full map[int16]bool) bool {
	for _, c := range cursors {
		if len(c.late) > 0 || len(c.pending.without(s.unseen(everything))) > 0 {
			return true
		}
		for i, lane := range c.lanes {
			if head < c.after[i] || head > c.after[i] && !full[lane] {
				return true
			}
		}
	}
	return false
}

// equal reports whether both say the same of the same lanes, in the same order.
func (c cursor) equal(o cursor) bool {
	return slices.Equal(c.lanes, o.lanes) && slices.Equal(c.after, o.after) && c.pending.equal(o.pending) && c.late.equal(o.late) &&
		c.lateAfter == o.lateAfter
}

// same reports whether cursors say the same of the same lanes.
func same(a, b []cursor) bool {
	if lanesOf(a) != lanesOf(b) {
		return false
	}
	var of [Lanes]struct {
		cursor *cursor
		after  int64
	}
	for i := range a {
		for j, lane := range a[i].lanes {
			of[lane].cursor, of[lane].after = &a[i], a[i].after[j]
		}
	}
	for _, c := range b {
		for j, lane := range c.lanes {
			o := of[lane]
			if o.cursor == nil || o.after != c.after[j] || !o.cursor.pending.equal(c.pending) ||
				!o.cursor.late.equal(c.late) || o.cursor.lateAfter != c.lateAfter {
				return false
			}
		}
	}
	return true
}

// split removes lanes from cursors and returns them as cursors of their own.
func split(cursors []cursor, lanes []int16) (rest, removed []cursor) {
	for _, c := range cursors {
		keep, drop := c, c
		keep.lanes, keep.after, drop.lanes, drop.after = nil, nil, nil, nil
		for i, lane := range c.lanes {
			to := &keep
			if slices.Contains(lanes, lane) {
				to = &drop
			}
			to.lanes, to.after = append(to.lanes, lane), append(to.after, c.after[i])
		}
		if len(keep.lanes) > 0 {
			rest = append(rest, keep)
		}
		if len(drop.lanes) > 0 {
			removed = append(removed, drop)
		}
	}
	return rest, removed
}
