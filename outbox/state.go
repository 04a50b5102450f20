package outbox

import "time"

// A State is the state of a delivery.
type State string

// The states of a delivery. One that is delivered has no row, and no state.
const (
	Retrying State = "retrying" // waits for its next attempt, or for earlier events of its key
	Running  State = "running"  // a worker has begun an attempt
	Dead     State = "dead"     // given up; kept until it is retried, skipped or discarded
	Skipped  State = "skipped"  // set aside by its handler or an operator; kept with the reason until Config.Retention is over
)

// A Failure is a failed attempt, which is recorded in its delivery. In an outage, several have the same number: such attempts do not count.
type Failure struct {
	Attempt int       `json:"attempt"` // number of the attempt, from 1
	At      time.Time `json:"at"`      // when it ended, by the worker's clock
	Worker  string    `json:"worker"`  // Config.Name of the worker
	Error   string    `json:"error"`
}
