// Command outbox shows, creates and inspects an outbox. Run it with --help.
package main

import "github.com/signalbox-go/signalbox/internal/cli"

func main() { cli.Main("outbox", Run) }
