// Command worker serves a subscription: it handles the events that match its topics. Run it with --help.
package main

import "github.com/signalbox-go/signalbox/internal/cli"

func main() { cli.Main("worker", Run) }
