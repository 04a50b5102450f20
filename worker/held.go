package worker

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
)

const (
	// holdAbove is how many deliveries a key's line has before the key is held: from then on, its events stay in the log.
	holdAbove = 100
	// refillBelow is how many are left of the line of a held key when more are taken from the log.
	refillBelow = holdAbove / 2
	// refillWith is below how many deliveries the line of a held key is filled up when its lane is walked for a short one: one walk passes the
	// events of all of them, and with one for each key, that would be most of the work.
	refillWith = holdAbove * 3 / 4
	// refillMost is how many are taken at once of a key whose line is worked off fast, and refillSoon how fast that is.
	refillMost = 200
	refillSoon = 250 * time.Millisecond
	// refillTime is how long one refill should take, and refillLeast and refillLooks at how many events it looks at least and at most for that, of
	// all keys of its lane.
	refillTime               = 5 * time.Millisecond
	refillLeast, refillLooks = 500, 10_000
)

// putOff notes that an event of a window waits behind others of its key, or was not begun: in a delivery or, where its key has
// enough of them, in the log. Only an event that was new to the cursor begins a hold, and only if nothing of its key that comes after it in its window is a delivery
// already, as where that was put off for its topic before handlers ran, or was begun: so nothing of its key that is later was ever settled. One that was late, and is
// earlier than the hold, becomes a delivery however many there are.
func (r *runner) putOff(e *engine.Event) {
	id := lineOf(e)
	l := r.backlog.line(id)
	switch {
	case l != nil && l.from != 0 && e.ID >= l.from:
		return
	case l != nil && l.from == 0 && id.key != "" && l.count >= holdAbove && e.ID > max(l.last, r.answered[id.key]) && r.window.New(e):
		r.owesRow(time.Now())
		r.owed.Holds = append(r.owed.Holds, engine.Hold{Lane: id.lane, Key: id.key, From: e.ID})
		r.backlog.holdKey(id, e.ID)
		return
	}
	r.owesRow(time.Now())
	r.owed.Unfinished = append(r.owed.Unfinished, engine.Unfinished{Event: *e, InLog: r.inLog(e.Lane)})
	r.backlog.add(id, 1, time.Now(), e.Topic)
	if l != nil && e.ID < l.last {
		r.backlog.head(id, "") // the line may begin with it, and wait for another topic, or for none
	}
	r.backlog.took(id, e.ID)
}

// inLog reports whether deliveries that are made now are left without a copy of their event: where very many are unfinished.
func (r *runner) inLog(lane int16) bool { return r.backlog.lanes[lane] >= copiedMost }

// refill makes deliveries of what held keys have in the log, where their lines grow short, and reports whether it did. What is decided about
// windows has to be settled first: a refill ends at the cursor.
func (r *runner) refill(ctx context.Context) (bool, error) {
	if len(r.backlog.short) == 0 {
		return false, nil
	}
	if err := r.settle(ctx); err != nil {
		return false, err
	}
	at := r.decided()
	now := time.Now()
	for _, lane := range r.backlog.shortLanes(r.refilledLane) {
		var refills []engine.Refill
		wants := r.backlog.wants(lane, now)
		start, looks := time.Now(), max(refillLeast, r.looks)
		err := r.patiently(ctx, func(ctx context.Context) (err error) {
			refills, err = r.member.Refill(ctx, lane, wants, at, looks, r.cfg.Retention, r.inLog(lane))
			return err
		})
		if err != nil {
			return false, err
		}
		r.refilledLane = lane
		if fitting := looksFitting(looks, time.Since(start)); fitting < looks || !slices.ContainsFunc(refills, func(f engine.Refill) bool { return f.From == 0 }) {
			r.looks = fitting // else there was less to look at
		}
		for _, f := range refills {
			r.backlog.refilled(lineID{lane: lane, key: f.Key}, f, now)
		}
		if took := time.Since(now); took >= dueTime || took >= max(refillTime/2, r.windowTook/2) && r.expectsNew() {
			break // those that are left are short in the next turn, too: new events do not wait for dozens of lanes
		}
	}
	return true, nil
}

// looksFitting is how many events the next refill looks at, after one that looked at so many took so long: all that is new waits for it.
func looksFitting(looks int, took time.Duration) int {
	fitting := float64(looks) * float64(refillTime) / float64(max(took, time.Microsecond))
	return int(min(refillLooks, 2*float64(looks), max(refillLeast, fitting)))
}

// decided returns up to where every window was decided: handled, deliveries or held.
func (r *runner) decided() engine.Position {
	switch {
	case r.ahead != nil:
		return r.member.Decided(r.ahead.window)
	case r.feed != nil:
		return r.feed.decided()
	}
	return r.member.Decided(nil)
}

// holdKey notes that a key is held from an event on.
func (b *backlog) holdKey(id lineID, from int64) {
	l := b.line(id)
	l.from, l.room = from, holdAbove
	b.check(id, l)
}

// check notes whether the line of a held key is short, or has room for more.
func (b *backlog) check(id lineID, l *line) {
	note := func(lines map[lineID]*line, belongs bool) {
		if belongs {
			lines[id] = l
		} else {
			delete(lines, id)
		}
	}
	held := l.from != 0
	note(b.short, held && (l.count < refillBelow || l.old))
	note(b.roomy[id.lane], held && (l.count < refillWith || l.old))
}

// shortLanes returns the lanes that have short lines, those behind the given one first: each has its turn.
func (b *backlog) shortLanes(after int16) []int16 {
	short := map[int16]bool{}
	for id := range b.short {
		short[id.lane] = true
	}
	lanes := slices.Sorted(maps.Keys(short))
	next, _ := slices.BinarySearch(lanes, after+1)
	return append(lanes[next:len(lanes):len(lanes)], lanes[:next]...)
}

// roomAt is how many deliveries a line may have that is refilled now: about what its handler does in a second. One that is empty may have waited
// for its lane's turn.
func (l *line) roomAt(now time.Time) int {
	if now.Sub(l.refilledAt) < refillSoon || l.count == 0 && !l.refilledAt.IsZero() {
		return min(2*l.room, refillMost)
	}
	return holdAbove
}

// wants returns what the lines of a lane have room for. A walk begins at the short one that no walk has passed for longest, and takes along
// all that it passes, short or not: were it to begin at the one that is held from furthest back, one with a long way to go would have all the walks.
func (b *backlog) wants(lane int16, now time.Time) (wants []engine.Want) {
	var first *line
	for id, l := range b.roomy[lane] {
		if b.short[id] == nil {
			continue
		}
		if first == nil || l.passedAt.Before(first.passedAt) || l.passedAt.Equal(first.passedAt) && l.from < first.from {
			first = l
		}
	}
	for id, l := range b.roomy[lane] {
		if first != nil && l.from >= first.from {
			wants = append(wants, engine.Want{Key: id.key, Rows: max(0, l.roomAt(now)-l.count)})
		}
	}
	return wants
}

// refilled notes what a refill has brought.
func (b *backlog) refilled(id lineID, f engine.Refill, now time.Time) {
	l := b.line(id)
	if l == nil {
		return
	}
	l.passedAt = now
	if f.Rows > 0 {
		l.room, l.refilledAt = l.roomAt(now), now
		if l.count == 0 {
			b.wait(id, now)
		}
	}
	l.from, l.old = f.From, f.Old
	b.add(id, f.Rows, now, "")
	if l.count == 0 && l.from == 0 {
		b.unfile(id)
	}
	b.check(id, l)
}
