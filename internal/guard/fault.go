package guard

import "sync/atomic"

// A Place is where code of the application is called whose faults cost it nothing but the call.
type Place int

// The places of which faults are counted.
const (
	Hook Place = iota
	LogHandler
	places
)

var faults [places]atomic.Int64

// Count counts a fault: a panic, or a goroutine that was ended.
func Count(p Place) { faults[p].Add(1) }

// Faults returns how many faults there were in this process. Safe for concurrent use.
func Faults(p Place) int64 { return faults[p].Load() }
