// Package sinktest has the tests that every sink of package relay passes: what is acknowledged is there, keys stay in order, and neither poison nor
// an outage loses or counts anything that it should not.
//
//	func TestMain(m *testing.M) { sinktest.Main(m) }
//
//	func TestConformance(t *testing.T) {
//		sinktest.Run(t, sinktest.Target{New: …, Destination: …, Received: …, Stop: …, Start: …})
//	}
//
// Each test publishes to a database of its own, relays with a worker, and compares by UID what was published with what the sink's system has
// received. They need PostgreSQL's programs, and find them as the tests of the project do: see CONTRIBUTING.md.
package sinktest
