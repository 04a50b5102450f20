package outbox

import "time"

// A State is the state of a delivery.
type State string

// The states of a delivery. A delivered one has no row any more.
const (
	Retrying State = "retrying" // to be tried again, or for the first time once those before it are done
	Running  State = "running"  // its worker, the owner, has begun an attempt
	Dead     State = "dead"     // given up; kept until it is retried, skipped or discarded
	Skipped  State = "skipped"  // set aside by its handler or an operator; kept with the reason
)

// A Failure is kept with a delivery, one for each attempt.
type Failure struct {
	Attempt int       `json:"attempt"`
	At      time.Time `json:"at"`
	Worker  string    `json:"worker"`
	Error   string    `json:"error"`
}
