// Package position has what is in an outbox.Position, for those who read it: packages engine and admin.
package position

import "time"

// A Kind is what a position is told by.
type Kind int

// The kinds of positions.
const (
	None Kind = iota
	Beginning
	Now
	ID
	Time
)

// A Position is where in the log to begin.
type Position struct {
	Kind Kind
	ID   int64     // of kind ID
	At   time.Time // of kind Time
}
