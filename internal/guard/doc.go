// Package guard calls code that the application gave, such as callbacks and handlers of a log, so that it cannot take the caller
// along: neither a panic nor [runtime.Goexit], which t.FailNow and its relatives call, reaches the caller's goroutine.
//
// A call costs a goroutine, about a microsecond. Handlers of events are guarded in package worker, which pays that once for
// many.
package guard
