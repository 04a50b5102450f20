package outbox

// A State is the state of a delivery.
type State string

// The states of a delivery. One that is delivered has no row, and no state.
const (
	Retrying State = "retrying" // waits for its next attempt, or for earlier events of its key
	Running  State = "running"  // a worker has begun an attempt
	Dead     State = "dead"     // given up; kept until it is retried, skipped or discarded
	Skipped  State = "skipped"  // set aside by its handler or an operator; kept with the reason until Config.Retention is over
)
