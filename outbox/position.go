package outbox

import (
	"errors"
	"time"
)

// A Position is a place in the log, at which a new subscription begins or to which one goes back. Its zero value is
// FromBeginning.
type Position struct {
	now bool
	id  int64
	at  time.Time
}

var (
	// FromBeginning reads everything that the log still has.
	FromBeginning = Position{}
	// FromNow reads what is committed from now on, including what running transactions have already published.
	FromNow = Position{now: true}
)

// FromID reads from the event with this id on. No event needs to have the id, but it may not be higher than the one that the
// next event gets. What a running transaction has published under a lower id is not read.
func FromID(id int64) Position { return Position{id: id} }

// FromTime reads what was published at this time or later: what counts is when the publishing statement began. The ids of
// statements that run at the same time mix, so some of the first events may be slightly older. If statements with hundreds of
// thousands of events were running at that time, some events of other statements may be left out: choose an earlier time then.
func FromTime(at time.Time) Position { return Position{at: at} }

// ErrInvalidPosition says that a position is not in the log, or is not possible there.
var ErrInvalidPosition = errors.New("invalid position")

// Now reports whether p is FromNow.
func (p Position) Now() bool { return p.now }

// ID returns the id of FromID, and 0 for any other position.
func (p Position) ID() int64 { return p.id }

// Time returns the time of FromTime, and the zero time for any other position.
func (p Position) Time() time.Time { return p.at }
