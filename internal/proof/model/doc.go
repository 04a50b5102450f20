// Command model checks the protocols of docs/design.md exhaustively: the doorbell, and the lanes.
//
//	go run ./internal/proof/model           # all of it: some minutes, and a few gigabytes
//	go run ./internal/proof/model -short    # as the tests do: seconds
//
// It prints a table of what was explored, and for each broken variant the shortest run that goes wrong.
package main
