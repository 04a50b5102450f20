// Command producer is the reference service: it takes signals over HTTP and stores each with its event in one
// transaction. Run it with --help.
package main

import "github.com/signalbox-go/signalbox/internal/cli"

func main() { cli.Main("producer", Run) }
