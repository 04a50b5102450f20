// Package command tests the command "outbox relay" as operators run it: as a process, with real brokers and a real database.
package command
