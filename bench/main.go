// Command bench measures Signalbox, and other ways to deliver events from PostgreSQL, on one server. Run it with --help.
package main

import (
	"github.com/signalbox-go/signalbox/internal/cli"
)

func main() {
	cli.Main("bench", Run)
}
