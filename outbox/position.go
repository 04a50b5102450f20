package outbox

import (
	"errors"
	"time"

	"github.com/signalbox-go/signalbox/internal/position"
)

// A Position is where in the log a new subscription starts, or to where an existing one rewinds: one of the variables and functions
// below. The zero value is none: a new subscription starts at the beginning then, and a rewind is refused.
type Position position.Position

var (
	// FromBeginning reads all events that are in the log.
	FromBeginning = Position{Kind: position.Beginning}
	// FromNow reads events that are committed from now on, including those that running transactions have already published.
	FromNow = Position{Kind: position.Now}
)

// FromID reads events with this id or a higher one. The id need not exist, but must be positive, and must not exceed the next id to be
// assigned. Events that running transactions have published with lower ids are not read.
func FromID(id int64) Position { return Position{Kind: position.ID, ID: id} }

// FromTime reads events published at this time or later, which must not be the zero time. An event is published when its publishing
// statement begins, by the database's clock. The ids of concurrent statements interleave, so some of the first events may be slightly
// older. If statements with hundreds of thousands of events were running at that time, some events of other statements may be missing:
// choose an earlier time then.
func FromTime(at time.Time) Position { return Position{Kind: position.Time, At: at} }

// ErrInvalidPosition is wrapped by errors about a position that the log does not have or cannot have.
var ErrInvalidPosition = errors.New("invalid position")
