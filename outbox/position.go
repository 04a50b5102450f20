package outbox

import (
	"errors"
	"time"
)

// A Position is where in the log a new subscription starts, or to where an existing one rewinds. The zero value is FromBeginning.
type Position struct {
	now bool
	id  int64
	at  time.Time
}

var (
	// FromBeginning reads all events that are in the log.
	FromBeginning = Position{}
	// FromNow reads events that are committed from now on, including those that running transactions have already published.
	FromNow = Position{now: true}
)

// FromID reads events with this id or a higher one. The id need not exist, but must not exceed the next id to be assigned. Events that
// running transactions have published with lower ids are not read.
func FromID(id int64) Position { return Position{id: id} }

// FromTime reads events published at this time or later. An event is published when its publishing statement begins, by the database's
// clock. The ids of concurrent statements interleave, so some of the first events may be slightly older. If statements with hundreds of
// thousands of events were running at that time, some events of other statements may be missing: choose an earlier time then.
func FromTime(at time.Time) Position { return Position{at: at} }

// ErrInvalidPosition is wrapped by errors about a position that the log does not have or cannot have.
var ErrInvalidPosition = errors.New("invalid position")

// Now reports whether p is FromNow.
func (p Position) Now() bool { return p.now }

// ID returns the id of FromID, and 0 for any other position.
func (p Position) ID() int64 { return p.id }

// Time returns the time of FromTime, and the zero time for any other position.
func (p Position) Time() time.Time { return p.at }
