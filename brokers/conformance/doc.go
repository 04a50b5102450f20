// Package conformance runs the tests of all sinks (relay/sinktest) with real brokers, which they kill and freeze.
package conformance
